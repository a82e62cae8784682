"""The question that a path finder answers, its answer, and the port of path finders."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from throttling_sequencer.domain.errors import InvalidValueError
from throttling_sequencer.domain.game import Unit
from throttling_sequencer.domain.rules import require_between

WEIGHT_LIMIT = 1e6
THROTTLE_LIMIT = 1_000_000
SEQUENCE_LENGTH_LIMIT = 10_000
SEED_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Objective:
    """What makes a plan good, and which plans are allowed.

    The score, lower is better, is `distance_weight`·|distance missed| + `speed_weight`·(how far the final speed is
    outside 0…`speed_threshold`, counted from the threshold) + `length_weight`·steps + `nonzero_weight`·(steps with a
    throttle that is not 0). A plan has 1 to `max_sequence_length` integer throttles within `throttle_range`.
    """

    speed_threshold: float = 5.0
    throttle_range: tuple[int, int] = (0, 300)
    max_sequence_length: int = 100
    distance_weight: float = 1.0
    speed_weight: float = 0.5
    length_weight: float = 0.01
    nonzero_weight: float = 0.01

    def __post_init__(self) -> None:
        require_between("speed_threshold", self.speed_threshold, 0.0, 1e9)
        require_between("max_sequence_length", self.max_sequence_length, 1, SEQUENCE_LENGTH_LIMIT)
        for name in ("distance_weight", "speed_weight", "length_weight", "nonzero_weight"):
            require_between(name, getattr(self, name), 0.0, WEIGHT_LIMIT)
        low, high = self.throttle_range
        if not -THROTTLE_LIMIT <= low <= high <= THROTTLE_LIMIT:
            raise InvalidValueError(
                "throttle_range", f"should be two integers, the lower first, within ±{THROTTLE_LIMIT}"
            )


@dataclass(frozen=True, slots=True)
class PlanningProblem:
    """A unit that shall cover `distance` along its way and be slow there; the direction plays no part."""

    distance: float
    speed: float
    mass: float
    friction: float
    objective: Objective

    @classmethod
    def between(cls, unit: Unit, target: Unit, objective: Objective) -> "PlanningProblem":
        """Pose the problem of a unit that shall reach another one's place."""
        return cls(unit.coordinate.distance_to(target.coordinate), unit.speed, unit.mass, unit.friction, objective)


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a search may take: `timeout_ms` milliseconds from its start. `seed` makes it repeatable."""

    timeout_ms: int = 1000
    seed: int | None = None

    def __post_init__(self) -> None:
        require_between("timeout_ms", self.timeout_ms, 1, 600_000)
        if self.seed is not None:
            require_between("seed", self.seed, 0, SEED_LIMIT)


@dataclass(frozen=True, slots=True)
class ScoreParts:
    """The weighted terms of a score."""

    distance: float
    speed: float
    length: float
    nonzero: float

    @property
    def total(self) -> float:
        return math.fsum((self.distance, self.speed, self.length, self.nonzero))


@dataclass(frozen=True, slots=True)
class ThrottlePlan:
    """The throttles of a plan, step by step, its score, and what the search tells about itself.

    `generations` is how many of them the search ran, `seed` is what repeats it (None: it has no randomness), and no
    plan can score below `lower_bound` (None: nothing was proven).
    """

    throttles: tuple[int, ...]
    score_parts: ScoreParts
    generations: int = field(default=0, kw_only=True)
    seed: int | None = field(default=None, kw_only=True)
    lower_bound: float | None = field(default=None, kw_only=True)

    @property
    def score(self) -> float:
        return self.score_parts.total

    @property
    def gap(self) -> float | None:
        """How far the score may be above that of the best plan, None where nothing was proven."""
        return None if self.lower_bound is None else self.score - self.lower_bound

    def __reduce__(self) -> tuple[Callable[..., "ThrottlePlan"], tuple[object, ...]]:
        # As that of `UnitGoal`: the plans of many units cross a process boundary.
        parts = self.score_parts
        scores = (parts.distance, parts.speed, parts.length, parts.nonzero)
        return _unpickled, (self.throttles, scores, self.generations, self.seed, self.lower_bound)


def _unpickled(
    throttles: tuple[int, ...],
    scores: tuple[float, float, float, float],
    generations: int,
    seed: int | None,
    lower_bound: float | None,
) -> ThrottlePlan:
    parts = ScoreParts(*scores)
    return ThrottlePlan(throttles, parts, generations=generations, seed=seed, lower_bound=lower_bound)


class Progress(Protocol):
    """Hears of a search; returning False tells it to stop and answer with what it has."""

    def __call__(self, generation: int, score: float, throttles: Sequence[int]) -> bool: ...


def keep_going(generation: int, score: float, throttles: Sequence[int]) -> bool:  # noqa: ARG001 - it wants to hear nothing
    """Let the search use its whole budget: the Progress of nobody."""
    return True


class PathFinder(Protocol):
    """Searches a good plan. Synchronous and pure: it computes, and nothing else."""

    def find_path(self, problem: PlanningProblem, budget: Budget, progress: Progress = keep_going) -> ThrottlePlan:
        """Return the best plan found within the budget; with a seed, and time to spare, always the same one."""
        ...
