"""Our path finders, judged by the proven optima."""

import statistics
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from throttling_sequencer.domain.genetic_path import GeneticConfiguration, GeneticPathFinder
from throttling_sequencer.domain.navigation import Budget, PathFinder, PlanningProblem, ThrottlePlan
from throttling_sequencer.infrastructure.optimal import OptimalPathFinder, warm_up

from bench.figures import at_least, at_most, median
from bench.planner.gaps import gap, percentile, summary
from bench.planner.optima import Optimum

BUDGETS_MS = (5, 20, 50, 200, 1000)
CLOSE = 0.001
SEED = 1
_CALLS = 3
_PLENTY_MS = 10_000


def genetic(optima: Sequence[Optimum]) -> dict[str, Any]:
    """Search every case with every budget; what is asked of the gap, and of keeping the deadline."""
    finder = GeneticPathFinder(GeneticConfiguration())
    found = {budget: [_timed(finder, optimum.problem, budget) for optimum in optima] for budget in BUDGETS_MS}
    gaps = {
        budget: [gap(plan.score, optimum) for (plan, _), optimum in zip(plans, optima, strict=True)]
        for budget, plans in found.items()
    }
    over_50 = [elapsed - 50 for _, elapsed in found[50]]
    return {
        "cases": len(optima),
        "gap": {str(budget): summary(values) for budget, values in gaps.items()},
        "p50_at_50_ms": at_most(0.01, percentile(gaps[50], 50)),
        "p95_at_50_ms": at_most(0.05, percentile(gaps[50], 95)),
        "p95_at_1000_ms": at_most(0.01, percentile(gaps[1000], 95)),
        "worse_with_more_time": _worse_with_more_time(gaps),
        "ms_over_a_deadline_of_50": {
            "p50": median(over_50),
            "p99": round(percentile(over_50, 99), 2),
            "max": at_most(10.0, round(max(over_50), 2)),
        },
    }


def optimal(optima: Sequence[Optimum]) -> dict[str, Any]:
    """Solve every case, several times for the time it takes; the proofs of the solver beside it."""
    finder = OptimalPathFinder()
    warm_up()
    plans: list[ThrottlePlan] = []
    taken: list[float] = []
    for optimum in optima:
        calls = [_timed(finder, optimum.problem, _PLENTY_MS) for _ in range(_CALLS)]
        plans.append(calls[0][0])
        taken.append(statistics.median(elapsed for _, elapsed in calls))
    proofs = [optimum.proof_seconds * 1000 for optimum in optima]
    return {
        "cases": len(optima),
        **_judged(plans, optima),
        "median_ms": at_most(1.0, median(taken, 3)),
        "p99_ms": at_most(20.0, round(percentile(taken, 99), 2)),
        "max_ms": round(max(taken), 2),
        "milp_median_ms": round(median(proofs)),
        "milp_p99_ms": round(percentile(proofs, 99)),
    }


def _judged(plans: Sequence[ThrottlePlan], optima: Sequence[Optimum]) -> dict[str, Any]:
    pairs = list(zip(plans, optima, strict=True))
    bounds = [(plan, float(plan.lower_bound), optimum) for plan, optimum in pairs if plan.lower_bound is not None]
    close = sum(plan.score - optimum.score <= CLOSE for plan, optimum in pairs)
    return {
        "share_within_0.001": at_least(0.99, round(close / len(pairs), 4)),
        "largest_excess": round(max(plan.score - optimum.score for plan, optimum in pairs), 6),
        "scores_below_their_bound": at_most(0, sum(plan.score < bound for plan, bound, _ in bounds)),
        "bounds_above_the_optimum": at_most(
            0, sum(bound > optimum.score + 1e-6 * max(1.0, optimum.score) for _, bound, optimum in bounds)
        ),
        "scores_below_the_solvers_bound": at_most(
            0, sum(plan.score < optimum.lower_bound - 1e-6 * max(1.0, optimum.score) for plan, optimum in pairs)
        ),
        "bounds_missing": len(pairs) - len(bounds),
    }


def _timed(finder: PathFinder, problem: PlanningProblem, budget_ms: int) -> tuple[ThrottlePlan, float]:
    begun = time.perf_counter()
    plan = finder.find_path(problem, Budget(budget_ms, SEED))
    return plan, (time.perf_counter() - begun) * 1000


def _worse_with_more_time(gaps: Mapping[int, Sequence[float]]) -> int:
    """Return how many cases ended worse with some budget than with a smaller one."""
    return sum(
        any(later > sooner + 1e-9 for sooner, later in pairwise(row)) for row in zip(*gaps.values(), strict=True)
    )
