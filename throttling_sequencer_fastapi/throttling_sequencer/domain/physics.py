"""How a unit moves, and what a plan is worth."""

from collections.abc import Iterator, Sequence

from throttling_sequencer.domain.navigation import PlanningProblem, ScoreParts


def trajectory(problem: PlanningProblem, throttles: Sequence[int]) -> Iterator[tuple[float, float]]:
    """Yield the distance covered and the speed after each of these throttles.

    Per step the speed v becomes (v + throttle / mass)·(1 - friction), and the unit moves on by it.
    """
    kept = 1.0 - problem.friction
    covered, speed = 0.0, problem.speed
    for throttle in throttles:
        speed = (speed + throttle / problem.mass) * kept
        covered += speed
        yield covered, speed


def score_parts(problem: PlanningProblem, throttles: Sequence[int]) -> ScoreParts:
    """Simulate these throttles and weigh what comes of them, as `Objective` describes."""
    covered, final_speed = 0.0, problem.speed
    for covered, final_speed in trajectory(problem, throttles):  # noqa: B007 - the last one counts
        pass
    objective = problem.objective
    return ScoreParts(
        distance=objective.distance_weight * abs(problem.distance - covered),
        speed=objective.speed_weight * excess_speed(final_speed, objective.speed_threshold),
        length=objective.length_weight * len(throttles),
        nonzero=objective.nonzero_weight * (len(throttles) - list(throttles).count(0)),
    )


def excess_speed(speed: float, threshold: float) -> float:
    """Return how far a final speed is from the threshold, 0 where it is between 0 and the threshold."""
    return 0.0 if 0.0 <= speed <= threshold else abs(speed - threshold)
