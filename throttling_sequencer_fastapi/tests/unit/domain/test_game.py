"""The rules about what may be on the field."""

import math

import pytest
from throttling_sequencer.domain.errors import InvalidValueError
from throttling_sequencer.domain.game import Coordinate, GameState, Unit

HERE = Coordinate(0, 0)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"mass": 0}, "mass"),
        ({"mass": -1}, "mass"),
        ({"mass": 0.0009}, "mass"),
        ({"mass": 1.1e9}, "mass"),
        ({"mass": math.nan}, "mass"),
        ({"friction": 1}, "friction"),
        ({"friction": -0.01}, "friction"),
        ({"friction": 5}, "friction"),
        ({"friction": math.nan}, "friction"),
        ({"speed": math.inf}, "speed"),
        ({"speed": -1.1e9}, "speed"),
    ],
)
def test_a_unit_outside_the_rules_is_an_error_that_names_the_field(values: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        Unit(**{"coordinate": HERE, "speed": 0.0, "mass": 10.0, "friction": 0.1, **values})  # type: ignore[arg-type]  # a mix
    assert caught.value.field == field
    assert caught.value.rule.startswith("should be a number from")


def test_the_limits_themselves_are_allowed() -> None:
    Unit(Coordinate(1e9, -1e9), 1e9, 0.001, 0.0)
    Unit(HERE, -1e9, 1e9, 0.999999)


@pytest.mark.parametrize(("x", "y", "field"), [(math.nan, 0, "x"), (0, math.inf, "y"), (1e10, 0, "x")])
def test_a_coordinate_is_a_point_of_the_field(x: float, y: float, field: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        Coordinate(x, y)
    assert caught.value.field == field


@pytest.mark.parametrize("side", ["player_units", "enemy_units"])
def test_neither_side_is_empty(side: str) -> None:
    sides = {"player_units": [Unit(HERE, 0, 1, 0)], "enemy_units": [Unit(HERE, 0, 1, 0)], side: []}
    with pytest.raises(InvalidValueError, match=f"^{side} should hold at least one unit$"):
        GameState(**sides)


def test_a_rule_is_written_with_whole_numbers() -> None:
    with pytest.raises(InvalidValueError, match=r"^mass should be a number from 0\.001 to 1000000000$"):
        Unit(HERE, 0, 0, 0)
