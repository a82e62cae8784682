"""The rules about what may be on the field."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from throttling_sequencer.domain.errors import InvalidValueError
from throttling_sequencer.domain.game import Coordinate, GameState, Unit, nearest_targets

HERE = Coordinate(0, 0)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"mass": 0}, "mass"),
        ({"mass": -1}, "mass"),
        ({"mass": 0.0009}, "mass"),
        ({"mass": 1.1e9}, "mass"),
        ({"mass": math.nan}, "mass"),
        ({"mass": 10**400}, "mass"),
        ({"friction": 1}, "friction"),
        ({"friction": -0.01}, "friction"),
        ({"friction": 5}, "friction"),
        ({"friction": math.nan}, "friction"),
        ({"friction": 10**400}, "friction"),
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


def test_a_player_heads_for_the_nearest_enemy_the_first_of_equals() -> None:
    def units(*places: tuple[float, float]) -> list[Unit]:
        return [Unit(Coordinate(*place), 0, 1, 0) for place in places]

    state = GameState(units((0, 0), (6, 1), (3, 0)), units((7, 7), (3, 4), (5, 0), (1, 0), (3, -2)))
    assert list(nearest_targets(state)) == [3, 2, 2]


places = st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))


@given(players=st.lists(places, min_size=1, max_size=5), enemies=st.lists(places, min_size=1, max_size=5))
def test_no_enemy_is_nearer_than_the_nearest(
    players: list[tuple[float, float]], enemies: list[tuple[float, float]]
) -> None:
    state = GameState(*([Unit(Coordinate(*place), 0, 1, 0) for place in side] for side in (players, enemies)))
    for player, target in zip(players, nearest_targets(state), strict=True):
        assert math.dist(player, enemies[target]) == min(math.dist(player, enemy) for enemy in enemies)
