"""Where a unit is on its course."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from throttling_sequencer.domain.game import Coordinate, Unit
from throttling_sequencer.domain.unit_plan import Course


def course(start: tuple[float, float], end: tuple[float, float]) -> Course:
    return Course(0, 0, *(Unit(Coordinate(*place), 0, 1, 0) for place in (start, end)))


def test_a_unit_moves_straight_to_its_target_and_past_it() -> None:
    xs, ys = course((1, 1), (4, 5)).positions([0, 2.5, 5, 10])
    assert xs == pytest.approx((1, 2.5, 4, 7))
    assert ys == pytest.approx((1, 3, 5, 9))


def test_who_covers_less_than_nothing_moves_away() -> None:
    assert course((0, 0), (0, -3)).positions([-2]) == ((0,), (2,))


def test_a_unit_on_its_target_is_taken_to_head_along_x() -> None:
    assert course((7, 7), (7, 7)).positions([0, 2]) == ((7, 9), (7, 7))


axes = st.floats(-1e6, 1e6)


@given(start=st.tuples(axes, axes), end=st.tuples(axes, axes), covered=st.floats(-1e6, 1e6))
def test_a_position_is_as_far_from_the_start_as_was_covered(
    start: tuple[float, float], end: tuple[float, float], covered: float
) -> None:
    (x,), (y,) = course(start, end).positions([covered])
    assert math.dist(start, (x, y)) == pytest.approx(abs(covered), abs=1e-6)
