"""Problems to plan for, by family, the same ones on every machine."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from random import Random

from throttling_sequencer.domain.navigation import Objective, PlanningProblem

CASES_PER_FAMILY = 20
CASES_OF_OTHER_OBJECTIVES = 66
THROTTLE_RANGES = (
    (0, 300),
    (0, 1000),
    (0, 40),
    (0, 7),
    (0, 1),
    (-300, 300),
    (-50, 200),
    (-20, 0),
    (1, 100),
    (20, 25),
    (-30, -1),
)
OTHER_OBJECTIVES = "other_objectives"


@dataclass(frozen=True, slots=True)
class Case:
    """A problem with a name that stays the same for as long as the seed does."""

    id: str
    family: str
    problem: PlanningProblem


def cases(seed: int = 1) -> list[Case]:
    """Make the cases of every family: first those of the default objective, then those of others."""
    made = (_family(seed, name, CASES_PER_FAMILY, make) for name, make in FAMILIES.items())
    others = _family(seed, OTHER_OBJECTIVES, CASES_OF_OTHER_OBJECTIVES, _of_another_objective)
    return list(chain(*made, others))


def _family(seed: int, name: str, count: int, make: Callable[[Random], PlanningProblem]) -> Iterator[Case]:
    random = Random(f"{name} {seed}")
    for number in range(count):
        yield Case(f"{name}-{seed}-{number:02}", name, make(random))


def _problem(
    distance: float, speed: float, mass: float, friction: float, objective: Objective | None = None
) -> PlanningProblem:
    """Pose a problem whose numbers print in full."""
    return PlanningProblem(
        _printable(distance), _printable(speed), _printable(mass), _printable(friction), objective or Objective()
    )


def _printable(value: float) -> float:
    return float(f"{value:.6g}")


def _spread(random: Random, lowest: float, highest: float) -> float:
    """Draw from orders of magnitude: the exponents of 10."""
    return math.pow(10.0, random.uniform(lowest, highest))


def _friction(random: Random) -> float:
    return random.choice((0.01, _spread(random, -3, -1), random.uniform(0.0, 0.5)))


def _reach(speed: float, mass: float, friction: float, objective: Objective | None = None) -> float:
    """Return the distance that the strongest throttle at every step covers."""
    objective = objective or Objective()
    covered = 0.0
    for _ in range(objective.max_sequence_length):
        speed = (speed + objective.throttle_range[1] / mass) * (1.0 - friction)
        covered += speed
    return covered


def _at_rest(random: Random) -> PlanningProblem:
    return _problem(_spread(random, 1, 4), 0.0, _spread(random, 0, 3), _friction(random))


def _moving(random: Random) -> PlanningProblem:
    return _problem(_spread(random, 2, 4), random.uniform(1.0, 100.0), _spread(random, 0, 3), _friction(random))


def _light(random: Random) -> PlanningProblem:
    return _problem(
        _spread(random, 1, 5), random.choice((0.0, random.uniform(0, 50))), _spread(random, -2, 0), _friction(random)
    )


def _heavy(random: Random) -> PlanningProblem:
    speed, mass, friction = random.choice((0.0, random.uniform(0, 20))), _spread(random, 3, 6), _friction(random)
    return _problem(_reach(speed, mass, friction) * random.uniform(0.05, 1.2), speed, mass, friction)


def _frictionless(random: Random) -> PlanningProblem:
    return _problem(_spread(random, 1, 4), random.choice((0.0, random.uniform(0, 30))), _spread(random, 0, 3), 0.0)


def _high_friction(random: Random) -> PlanningProblem:
    speed, mass = random.choice((0.0, random.uniform(0, 200))), _spread(random, -1, 2)
    friction = random.choice((0.99, random.uniform(0.5, 0.99)))
    return _problem(_reach(speed, mass, friction) * random.uniform(0.01, 1.0), speed, mass, friction)


def _near(random: Random) -> PlanningProblem:
    speed = random.choice((0.0, random.uniform(0, 10)))
    return _problem(random.uniform(0.0, 10.0), speed, _spread(random, -1, 3), _friction(random))


def _far(random: Random) -> PlanningProblem:
    speed, mass, friction = random.uniform(0, 100), _spread(random, 0, 2), _friction(random)
    return _problem(_reach(speed, mass, friction) * random.uniform(0.3, 0.99), speed, mass, friction)


def _unreachable(random: Random) -> PlanningProblem:
    speed, mass, friction = random.uniform(0, 100), _spread(random, 0, 4), _friction(random)
    return _problem(_reach(speed, mass, friction) * (1.0 + _spread(random, -2, 1)), speed, mass, friction)


def _zero_distance(random: Random) -> PlanningProblem:
    speed = random.choice((0.0, random.uniform(0, 10), random.uniform(-100, 100)))
    return _problem(0.0, speed, _spread(random, -1, 3), _friction(random))


def _faster_than_needed(random: Random) -> PlanningProblem:
    distance = _spread(random, 1, 4)
    return _problem(distance, distance * random.uniform(0.1, 3.0), _spread(random, 0, 3), _friction(random))


def _backwards(random: Random) -> PlanningProblem:
    return _problem(_spread(random, 1, 4), random.uniform(-50.0, -0.1), _spread(random, 0, 2), _friction(random))


def _of_another_objective(random: Random) -> PlanningProblem:
    objective = Objective(
        speed_threshold=random.choice((0.0, 1.0, 5.0, 50.0)),
        throttle_range=random.choice(THROTTLE_RANGES),
        max_sequence_length=random.choice((5, 20, 60, 100, 200)),
        distance_weight=random.choice((1.0, 0.0, _printable(_spread(random, -1, 1)))),
        speed_weight=random.choice((0.5, 0.0, _printable(_spread(random, -1, 1)))),
        length_weight=random.choice((0.01, 0.0, _printable(_spread(random, -2, 0)))),
        nonzero_weight=random.choice((0.01, 0.0, 1.0, _printable(_spread(random, -2, 0)))),
    )
    speed, mass = random.choice((0.0, random.uniform(-30, 100))), _spread(random, 0, 3)
    friction = random.choice((0.0, _friction(random)))
    reach = abs(_reach(speed, mass, friction, objective))
    return _problem(reach * random.uniform(0.0, 1.1), speed, mass, friction, objective)


FAMILIES = {
    "at_rest": _at_rest,
    "moving": _moving,
    "light": _light,
    "heavy": _heavy,
    "frictionless": _frictionless,
    "high_friction": _high_friction,
    "near": _near,
    "far": _far,
    "unreachable": _unreachable,
    "zero_distance": _zero_distance,
    "faster_than_needed": _faster_than_needed,
    "backwards": _backwards,
}
