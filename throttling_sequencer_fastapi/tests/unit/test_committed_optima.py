"""The optima that a mixed-integer solver proved, and how `optimal` does beside them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from planning_cases import own_score
from throttling_sequencer.domain.navigation import Budget, Objective, PlanningProblem, ThrottlePlan
from throttling_sequencer.infrastructure.optimal import OptimalPathFinder

OPTIMA = Path(__file__).parents[3] / "bench" / "planner" / "optima.json"


class Proved(NamedTuple):
    problem: PlanningProblem
    throttles: list[int]
    score: float
    lower_bound: float

    @property
    def rounding(self) -> float:
        """What the two programs may differ by, because each sums in its own order."""
        return 1e-6 * max(1.0, self.score)


@pytest.fixture(scope="module")
def optima() -> list[Proved]:
    documents = json.loads(OPTIMA.read_text())["optima"].values()
    return [_proved(**document) for document in documents if document["proved"]]


@pytest.fixture(scope="module")
def plans(optima: list[Proved]) -> list[ThrottlePlan]:
    return [OptimalPathFinder().find_path(optimum.problem, Budget(1000)) for optimum in optima]


def _proved(problem: dict[str, Any], throttles: list[int], score: float, lower_bound: float, **_: object) -> Proved:
    objective = problem.pop("objective")
    objective["throttle_range"] = tuple(objective["throttle_range"])
    return Proved(PlanningProblem(**problem, objective=Objective(**objective)), throttles, score, lower_bound)


def test_there_are_enough_of_them(optima: list[Proved]) -> None:
    assert len(optima) >= 200


def test_each_committed_score_is_that_of_its_plan(optima: list[Proved]) -> None:
    for optimum in optima:
        assert optimum.score == pytest.approx(own_score(optimum.problem, optimum.throttles), rel=1e-12, abs=1e-9)
        assert optimum.lower_bound <= optimum.score <= optimum.lower_bound + 1e-5


def test_the_plans_are_allowed(optima: list[Proved]) -> None:
    for optimum in optima:
        low, high = optimum.problem.objective.throttle_range
        assert 1 <= len(optimum.throttles) <= optimum.problem.objective.max_sequence_length
        assert all(low <= throttle <= high for throttle in optimum.throttles)


def test_optimal_is_as_good_in_99_of_100_cases(optima: list[Proved], plans: list[ThrottlePlan]) -> None:
    worse = [plan for plan, optimum in zip(plans, optima, strict=True) if plan.score > optimum.score + 0.001]
    assert len(worse) <= 0.01 * len(optima), worse


def test_optimal_never_beats_what_was_proved(optima: list[Proved], plans: list[ThrottlePlan]) -> None:
    for plan, optimum in zip(plans, optima, strict=True):
        assert plan.score >= optimum.lower_bound - optimum.rounding, optimum.problem


def test_the_bound_of_optimal_is_never_above_the_optimum(optima: list[Proved], plans: list[ThrottlePlan]) -> None:
    for plan, optimum in zip(plans, optima, strict=True):
        assert plan.lower_bound is not None
        assert plan.lower_bound <= plan.score
        assert plan.lower_bound <= optimum.score + optimum.rounding, optimum.problem
