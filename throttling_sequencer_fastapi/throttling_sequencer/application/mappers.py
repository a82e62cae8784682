"""Maps what faces receive to the domain and back, by shape: REST and GraphQL share every line."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from throttling_sequencer.domain.errors import InvalidValueError
from throttling_sequencer.domain.game import Coordinate, GameState, Unit, UnitGoal


class CoordinateShape(Protocol):
    """Anything with the attributes of a coordinate."""

    @property
    def x(self) -> float: ...
    @property
    def y(self) -> float: ...


class UnitShape(Protocol):
    """Anything with the attributes of a unit."""

    @property
    def coordinate(self) -> CoordinateShape: ...
    @property
    def speed(self) -> float: ...
    @property
    def mass(self) -> float: ...
    @property
    def friction(self) -> float: ...


class GameStateShape(Protocol):
    """Anything with the attributes of a game state."""

    @property
    def player_units(self) -> Sequence[UnitShape]: ...
    @property
    def enemy_units(self) -> Sequence[UnitShape]: ...


CoordinateT = TypeVar("CoordinateT")
CoordinateT_co = TypeVar("CoordinateT_co", covariant=True)
CoordinateT_contra = TypeVar("CoordinateT_contra", contravariant=True)
GoalT = TypeVar("GoalT")
GoalT_co = TypeVar("GoalT_co", covariant=True)


class CoordinateConstructor(Protocol[CoordinateT_co]):
    """Makes a face's coordinate."""

    def __call__(self, *, x: float, y: float) -> CoordinateT_co: ...


class GoalConstructor(Protocol[CoordinateT_contra, GoalT_co]):
    """Makes a face's goal."""

    def __call__(self, *, coordinate: CoordinateT_contra, throttle: int) -> GoalT_co: ...


def to_game_state(shape: GameStateShape, max_units: int) -> GameState:
    """Build a game state of at most `max_units` units a side; raises InvalidValueError with the path of the value."""
    return GameState(
        player_units=_to_units("player_units", shape.player_units, max_units),
        enemy_units=_to_units("enemy_units", shape.enemy_units, max_units),
    )


def from_goals(
    goals: Iterable[UnitGoal],
    *,
    coordinate: CoordinateConstructor[CoordinateT],
    goal: GoalConstructor[CoordinateT, GoalT],
) -> list[GoalT]:
    """Build a face's goals with the face's own constructors."""
    return [from_goal(step, coordinate=coordinate, goal=goal) for step in goals]


def from_goal(
    step: UnitGoal,
    *,
    coordinate: CoordinateConstructor[CoordinateT],
    goal: GoalConstructor[CoordinateT, GoalT],
) -> GoalT:
    """Build one of a face's goals."""
    return goal(coordinate=coordinate(x=step.coordinate.x, y=step.coordinate.y), throttle=step.throttle)


def _to_units(field: str, shapes: Sequence[UnitShape], max_units: int) -> tuple[Unit, ...]:
    if len(shapes) > max_units:
        raise InvalidValueError(field, f"should hold at most {max_units} units")
    return tuple(_to_unit(f"{field}[{index}]", shape) for index, shape in enumerate(shapes))


def _to_unit(path: str, shape: UnitShape) -> Unit:
    try:
        coordinate = Coordinate(shape.coordinate.x, shape.coordinate.y)
    except InvalidValueError as error:
        raise error.inside(f"{path}.coordinate") from None
    try:
        return Unit(coordinate, shape.speed, shape.mass, shape.friction)
    except InvalidValueError as error:
        raise error.inside(path) from None
