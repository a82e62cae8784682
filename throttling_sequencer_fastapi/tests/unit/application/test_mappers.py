"""One mapper for every face: it looks at shapes only."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from throttling_sequencer.api.graphql.types import (
    CoordinateInputType,
    CoordinateType,
    GameStateInputType,
    UnitGoalType,
    UnitInputType,
)
from throttling_sequencer.api.http.v1.dtos import CoordinateDto, GameStateDto, UnitDto, UnitGoalDto
from throttling_sequencer.application.mappers import from_goals, to_game_state
from throttling_sequencer.domain.errors import InvalidValueError
from throttling_sequencer.domain.game import Coordinate, GameState, Unit, UnitGoal


@dataclass
class Face:
    coordinate: Any
    unit: Any
    game_state: Any


FACES = {
    "rest": Face(CoordinateDto, UnitDto, GameStateDto),
    "graphql": Face(CoordinateInputType, UnitInputType, GameStateInputType),
}


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    return FACES[request.param]


def test_every_face_maps_to_the_same_game_state(face: Face) -> None:
    units = [
        face.unit(coordinate=face.coordinate(x=float(x), y=1.0), speed=2.0, mass=3.0, friction=0.5) for x in range(3)
    ]
    expected = [Unit(Coordinate(x, 1), 2, 3, 0.5) for x in range(3)]
    assert to_game_state(face.game_state(player_units=units[:2], enemy_units=units[2:]), 10) == GameState(
        tuple(expected[:2]), tuple(expected[2:])
    )


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("player_units", 1, "mass"), 0.0, "player_units[1].mass"),
        (("enemy_units", 0, "friction"), 1.0, "enemy_units[0].friction"),
        (("enemy_units", 0, "coordinate", "y"), float("nan"), "enemy_units[0].coordinate.y"),
    ],
)
def test_an_error_tells_where_the_value_stands(path: tuple[str | int, ...], value: float, field: str) -> None:
    state = _state(players=2)
    target: Any = state
    for step in path[:-1]:
        target = target[step] if isinstance(step, int) else getattr(target, step)
    setattr(target, str(path[-1]), value)
    with pytest.raises(InvalidValueError) as caught:
        to_game_state(state, 10)
    assert caught.value.field == field
    assert str(caught.value).startswith(field + " should be")


def test_too_many_units_are_refused_by_side() -> None:
    to_game_state(_state(players=3), 3)
    with pytest.raises(InvalidValueError, match=r"^player_units should hold at most 2 units$"):
        to_game_state(_state(players=3), 2)


def test_goals_are_built_by_the_constructors_of_the_face() -> None:
    goals = [UnitGoal(Coordinate(1, 2), 30), UnitGoal(Coordinate(1, 2), 0)]
    rest = from_goals(goals, coordinate=CoordinateDto, goal=UnitGoalDto)
    graphql = from_goals(goals, coordinate=CoordinateType, goal=UnitGoalType)
    assert [goal.model_dump() for goal in rest] == [
        {"coordinate": {"x": 1, "y": 2}, "throttle": 30},
        {"coordinate": {"x": 1, "y": 2}, "throttle": 0},
    ]
    assert [(goal.coordinate.x, goal.coordinate.y, goal.throttle) for goal in graphql] == [(1, 2, 30), (1, 2, 0)]


def _state(players: int) -> Any:
    def unit() -> Any:
        return SimpleNamespace(coordinate=SimpleNamespace(x=0.0, y=0.0), speed=0.0, mass=1.0, friction=0.0)

    return SimpleNamespace(player_units=[unit() for _ in range(players)], enemy_units=[unit()])
