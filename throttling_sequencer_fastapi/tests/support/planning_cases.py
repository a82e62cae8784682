"""Problems that tests plan for, and the tests' own physics to judge the plans by."""

from random import Random

from hypothesis import strategies as st
from throttling_sequencer.domain.navigation import Objective, PlanningProblem

DEFAULTS = Objective()


def seeded_problems(count: int) -> list[PlanningProblem]:
    """Problems of every kind: at rest and moving, light and heavy, near and far, with and without friction."""
    random = Random(20)
    return [
        PlanningProblem(
            distance=random.choice((0.0, 1.0, 10 ** random.uniform(0, 5))),
            speed=random.choice((0.0, random.uniform(-50, 200))),
            mass=10 ** random.uniform(-1, 3),
            friction=random.choice((0.0, 0.01, random.uniform(0, 0.99))),
            objective=DEFAULTS,
        )
        for _ in range(count)
    ]


def own_score(problem: PlanningProblem, throttles: list[int]) -> float:
    """Score a plan by the definition, step by step."""
    speed, covered = problem.speed, 0.0
    for throttle in throttles:
        speed += throttle / problem.mass
        speed *= 1 - problem.friction
        covered += speed
    objective = problem.objective
    outside = 0.0 if 0 <= speed <= objective.speed_threshold else abs(speed - objective.speed_threshold)
    return (
        objective.distance_weight * abs(problem.distance - covered)
        + objective.speed_weight * outside
        + objective.length_weight * len(throttles)
        + objective.nonzero_weight * sum(throttle != 0 for throttle in throttles)
    )


objectives = st.builds(
    Objective,
    speed_threshold=st.floats(0, 1000),
    throttle_range=st.tuples(st.integers(-500, 500), st.integers(-500, 500)).map(lambda pair: (min(pair), max(pair))),
    max_sequence_length=st.integers(1, 60),
    distance_weight=st.floats(0, 100),
    speed_weight=st.floats(0, 100),
    length_weight=st.floats(0, 100),
    nonzero_weight=st.floats(0, 100),
)

problems = st.builds(
    PlanningProblem,
    distance=st.floats(0, 1e9),
    speed=st.floats(-1e9, 1e9),
    mass=st.floats(0.001, 1e9),
    friction=st.floats(0, 1, exclude_max=True),
    objective=objectives,
)
