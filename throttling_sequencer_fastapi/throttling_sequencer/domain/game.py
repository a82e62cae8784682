"""What is on the field, and what a unit is told to do."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from throttling_sequencer.domain.errors import InvalidValueError
from throttling_sequencer.domain.rules import require_below, require_between

COORDINATE_LIMIT = 1e9
SPEED_LIMIT = 1e9
MASS_RANGE = (0.001, 1e9)


@dataclass(frozen=True, slots=True)
class Coordinate:
    """A point of the field; each axis within ±1e9."""

    x: float
    y: float

    def __post_init__(self) -> None:
        require_between("x", self.x, -COORDINATE_LIMIT, COORDINATE_LIMIT)
        require_between("y", self.y, -COORDINATE_LIMIT, COORDINATE_LIMIT)

    def distance_to(self, other: "Coordinate") -> float:
        return math.hypot(other.x - self.x, other.y - self.y)


@dataclass(frozen=True, slots=True)
class Unit:
    """A body on the field.

    `speed` is the distance that it covers per step towards its target (negative: away from it), within ±1e9; `mass`
    divides the throttle, 0.001 to 1e9; `friction` is the share of the speed lost per step, 0 to below 1.
    """

    coordinate: Coordinate
    speed: float
    mass: float
    friction: float

    def __post_init__(self) -> None:
        require_between("speed", self.speed, -SPEED_LIMIT, SPEED_LIMIT)
        require_between("mass", self.mass, *MASS_RANGE)
        require_below("friction", self.friction, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class GameState:
    """The units of both sides; neither side is empty."""

    player_units: Sequence[Unit]
    enemy_units: Sequence[Unit]

    def __post_init__(self) -> None:
        for field, units in (("player_units", self.player_units), ("enemy_units", self.enemy_units)):
            if not units:
                raise InvalidValueError(field, "should hold at least one unit")


def nearest_targets(state: GameState) -> Iterator[int]:
    """Yield for each player unit, in order, the index of the enemy unit that is nearest to it, the first of equals."""
    enemies = [(unit.coordinate.x, unit.coordinate.y) for unit in state.enemy_units]
    for unit in state.player_units:
        here = (unit.coordinate.x, unit.coordinate.y)
        distances = [math.dist(here, enemy) for enemy in enemies]
        yield distances.index(min(distances))


@dataclass(frozen=True, slots=True)
class UnitGoal:
    """One step of a plan: where the unit is heading, and the throttle of this step."""

    coordinate: Coordinate
    throttle: int

    def __reduce__(self) -> tuple[type["UnitGoal"], tuple[Coordinate, int]]:
        # A plan of many goals crosses a process boundary; the way of a frozen dataclass would take several times as
        # long, on the event loop.
        return UnitGoal, (self.coordinate, self.throttle)
