"""What a throttle is worth at each place of a plan.

For a fixed number of steps, distance and final speed are linear in the throttles. With a = 1 - friction, a throttle
n steps before the end (n = 1 is the last step) adds aⁿ/mass to the final speed and (a + a² + … + aⁿ)/mass to the
distance: earlier throttles cover more distance per final speed.
"""

from collections.abc import Sequence
from itertools import accumulate
from operator import mul

from throttling_sequencer.domain.navigation import PlanningProblem
from throttling_sequencer.domain.physics import excess_speed


class LinearModel:
    """Evaluates plans of one problem by two dot products, without simulating each step."""

    def __init__(self, problem: PlanningProblem) -> None:
        self.problem = problem
        longest = problem.objective.max_sequence_length
        powers = list(accumulate([1.0 - problem.friction] * longest, mul))
        sums = list(accumulate(powers))
        self._coast_speed: list[float] = [problem.speed * power for power in powers]
        self._coast_distance: list[float] = [problem.speed * total for total in sums]
        self._holds = [power / problem.mass for power in reversed(powers)]
        self._gains = [total / problem.mass for total in reversed(sums)]

    def gains(self, length: int) -> Sequence[float]:
        """Return the distance that one unit of throttle adds, for each step of a plan of this length."""
        return self._gains[len(self._gains) - length :]

    def coast_distance(self, length: int) -> float:
        """Return the distance covered in this many steps without throttle."""
        return self._coast_distance[length - 1]

    def covered(self, throttles: Sequence[int]) -> float:
        """Return the distance that a plan covers."""
        gained: float = sum(map(mul, throttles, self.gains(len(throttles))))
        return self._coast_distance[len(throttles) - 1] + gained

    def score(self, throttles: Sequence[int]) -> float:
        """Return the score of a plan, as `physics.score_parts` totals it up to rounding."""
        length = len(throttles)
        objective = self.problem.objective
        holds = self._holds[len(self._holds) - length :]
        final_speed = self._coast_speed[length - 1] + sum(map(mul, throttles, holds))
        return (
            objective.distance_weight * abs(self.problem.distance - self.covered(throttles))
            + objective.speed_weight * excess_speed(final_speed, objective.speed_threshold)
            + objective.length_weight * length
            + objective.nonzero_weight * (length - throttles.count(0))
        )
