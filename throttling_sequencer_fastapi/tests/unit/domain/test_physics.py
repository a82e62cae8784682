"""How units move and what plans are worth, by hand and by the tests' own physics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning_cases import own_score, problems
from throttling_sequencer.domain.navigation import Objective, PlanningProblem
from throttling_sequencer.domain.physics import excess_speed, score_parts, trajectory


def test_a_throttle_acts_before_the_friction_of_its_step() -> None:
    problem = PlanningProblem(100, 2, 10, 0.5, Objective())
    assert list(trajectory(problem, [20, 0])) == [(2.0, 2.0), (3.0, 1.0)]


def test_a_score_is_the_sum_of_its_weighted_parts() -> None:
    problem = PlanningProblem(100, 0, 1, 0, Objective())
    parts = score_parts(problem, [30, 0, 0])
    assert (parts.distance, parts.speed, parts.length, parts.nonzero) == (10, 12.5, 0.03, 0.01)
    assert parts.total == pytest.approx(22.54)


@pytest.mark.parametrize(("speed", "excess"), [(0, 0), (5, 0), (5.5, 0.5), (-0.5, 5.5)])
def test_speed_counts_from_the_threshold_and_backwards_too(speed: float, excess: float) -> None:
    assert excess_speed(speed, 5.0) == excess


@given(problem=problems, throttles=st.lists(st.integers(-500, 500), min_size=1, max_size=60))
def test_the_score_is_the_definition(problem: PlanningProblem, throttles: list[int]) -> None:
    assert score_parts(problem, throttles).total == pytest.approx(own_score(problem, throttles), rel=1e-12, abs=1e-9)
