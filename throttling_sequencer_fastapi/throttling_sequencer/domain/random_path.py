"""The baseline that any search has to beat."""

import time
from random import Random

from throttling_sequencer.domain.navigation import (
    SEED_LIMIT,
    Budget,
    PlanningProblem,
    Progress,
    ThrottlePlan,
    keep_going,
)
from throttling_sequencer.domain.physics import score_parts

_MOST_PLANS = 20_000
_SECONDS_BETWEEN_REPORTS = 0.005


class RandomPathFinder:
    """Makes up plans and keeps the best: up to 20,000 of them, as far as the budget reaches."""

    def find_path(self, problem: PlanningProblem, budget: Budget, progress: Progress = keep_going) -> ThrottlePlan:
        """Return the best of the plans made up within the budget, and the seed that makes them up again."""
        begun = time.monotonic()
        deadline, next_report = begun + budget.timeout_ms / 1000, begun + _SECONDS_BETWEEN_REPORTS
        seed = Random().randint(0, SEED_LIMIT) if budget.seed is None else budget.seed
        random = Random(seed)
        best = _made_up(problem, random, seed)
        for count in range(1, _MOST_PLANS):
            now = time.monotonic()
            if now >= deadline:
                break
            if now >= next_report:
                if not progress(count, best.score, best.throttles):
                    break
                next_report = now + _SECONDS_BETWEEN_REPORTS
            best = min(best, _made_up(problem, random, seed), key=lambda plan: plan.score)
        return best


def _made_up(problem: PlanningProblem, random: Random, seed: int) -> ThrottlePlan:
    low, high = problem.objective.throttle_range
    length = random.randint(1, problem.objective.max_sequence_length)
    throttles = tuple(random.choices(range(low, high + 1), k=length))
    return ThrottlePlan(throttles, score_parts(problem, throttles), seed=seed)
