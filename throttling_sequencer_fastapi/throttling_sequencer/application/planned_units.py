"""A plan with everything that explains it: what the faces answer, by these names."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from throttling_sequencer.domain.errors import InvalidValueError
from throttling_sequencer.domain.navigation import ScoreParts
from throttling_sequencer.domain.unit_plan import Course, UnitPlan


class PlanDetail(StrEnum):
    """What a plan tells only where it is asked for."""

    TRAJECTORY = "trajectory"
    """The way of the unit, step by step."""


@dataclass(frozen=True, slots=True)
class CoordinateColumns:
    """Points, an axis at a time."""

    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The speed, the distance covered and the position of a unit after each step of its plan."""

    speeds: tuple[float, ...]
    distances: tuple[float, ...]
    coordinates: CoordinateColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedUnit:
    """The plan of one player unit; `unit` and `target` are the places of the two in the game state."""

    unit: int
    target: int
    strategy: str
    throttles: tuple[int, ...]
    score: float
    score_parts: ScoreParts
    lower_bound: float | None
    gap: float | None
    final_speed: float
    distance_covered: float
    generations: int
    seed: int | None
    elapsed_ms: float
    trajectory: Trajectory | None

    @classmethod
    def of(cls, course: Course, planned: UnitPlan, strategy: str) -> "PlannedUnit":
        """Tell of the plan that was made for a course."""
        plan = planned.plan
        return cls(
            unit=course.unit_index,
            target=course.target_index,
            strategy=strategy,
            throttles=plan.throttles,
            score=plan.score,
            score_parts=plan.score_parts,
            lower_bound=plan.lower_bound,
            gap=plan.gap,
            final_speed=planned.final_speed,
            distance_covered=planned.distance_covered,
            generations=plan.generations,
            seed=plan.seed,
            elapsed_ms=planned.elapsed_ms,
            trajectory=_trajectory(course, planned),
        )


def details(include: Sequence[str]) -> set[PlanDetail]:
    """Return the details that a request names. Raises InvalidValueError for one that is not known."""
    known = list(PlanDetail)
    for place, name in enumerate(include):
        if name not in known:
            raise InvalidValueError(f"include[{place}]", f"should be one of {', '.join(known)}")
    return set(map(PlanDetail, include))


def _trajectory(course: Course, planned: UnitPlan) -> Trajectory | None:
    if planned.distances is None or planned.speeds is None:
        return None
    return Trajectory(planned.speeds, planned.distances, CoordinateColumns(*course.positions(planned.distances)))
