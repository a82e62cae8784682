"""The baseline that any search has to beat."""

import time
from random import Random

from throttling_sequencer.domain.navigation import Budget, PlanningProblem, Progress, ThrottlePlan, keep_going
from throttling_sequencer.domain.physics import score_parts

_PLANS_PER_REPORT = 100
_MOST_PLANS = 20_000


class RandomPathFinder:
    """Makes up plans and keeps the best: up to 20,000 of them, as far as the budget reaches."""

    def find_path(self, problem: PlanningProblem, budget: Budget, progress: Progress = keep_going) -> ThrottlePlan:
        """Return the best of the plans made up within the budget."""
        deadline = time.monotonic() + budget.timeout_ms / 1000
        random = Random(budget.seed)
        best = _made_up(problem, random)
        for count in range(1, _MOST_PLANS):
            if time.monotonic() >= deadline:
                break
            if count % _PLANS_PER_REPORT == 0 and not progress(count, best.score, best.throttles):
                break
            best = min(best, _made_up(problem, random), key=lambda plan: plan.score)
        return best


def _made_up(problem: PlanningProblem, random: Random) -> ThrottlePlan:
    low, high = problem.objective.throttle_range
    length = random.randint(1, problem.objective.max_sequence_length)
    throttles = tuple(random.randint(low, high) for _ in range(length))
    return ThrottlePlan(throttles, score_parts(problem, throttles))
