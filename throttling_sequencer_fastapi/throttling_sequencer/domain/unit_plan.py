"""What comes of planning for the units of a game state."""

from collections.abc import Sequence
from dataclasses import dataclass

from throttling_sequencer.domain.game import Unit
from throttling_sequencer.domain.navigation import ThrottlePlan


@dataclass(frozen=True, slots=True)
class Course:
    """A player unit and the enemy unit that it heads for, each with its place in the game state."""

    unit_index: int
    target_index: int
    unit: Unit
    target: Unit

    def positions(self, distances: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the x and the y of the unit's positions after it covered each of these distances towards its target.

        A unit that stands on its target has no direction; it is taken to head along the x axis.
        """
        here, there = self.unit.coordinate, self.target.coordinate
        away = here.distance_to(there)
        along_x, along_y = ((there.x - here.x) / away, (there.y - here.y) / away) if away else (1.0, 0.0)
        return (
            tuple(here.x + along_x * distance for distance in distances),
            tuple(here.y + along_y * distance for distance in distances),
        )


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """The plan of one course, where it ends, and the milliseconds that the search took.

    `distances` and `speeds` are the distance covered and the speed after each step, where they were asked for.
    """

    unit_index: int
    target_index: int
    plan: ThrottlePlan
    final_speed: float
    distance_covered: float
    elapsed_ms: float
    distances: tuple[float, ...] | None = None
    speeds: tuple[float, ...] | None = None

    def __reduce__(self) -> tuple[type["UnitPlan"], tuple[object, ...]]:
        # As that of `UnitGoal`: the plans of many units cross a process boundary.
        return UnitPlan, (
            self.unit_index,
            self.target_index,
            self.plan,
            self.final_speed,
            self.distance_covered,
            self.elapsed_ms,
            self.distances,
            self.speeds,
        )
