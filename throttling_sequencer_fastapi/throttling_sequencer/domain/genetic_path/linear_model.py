"""What a throttle is worth at each place of a plan.

A throttle's place is the number of steps from it to the end, its own included. For a plan of a given length, distance
and final speed are linear in the throttles: with a = 1 - friction, one unit of throttle at place n adds aⁿ/mass to
the final speed and (a + a² + … + aⁿ)/mass to the distance.

The throttle nearest to 0 is the idle one. A coin is by how much a throttle differs from it. Good plans idle at most of
their steps, so that a plan is best described by its length and its few coins.
"""

from collections.abc import Iterable
from itertools import accumulate, repeat
from operator import mul
from typing import NamedTuple, TypeAlias

from throttling_sequencer.domain.navigation import PlanningProblem

# The place of each coin and its value, which is not 0, in the order of places.
Coins: TypeAlias = tuple[tuple[int, int], ...]

# A final speed that is negative by rounding alone counts as none; what is kept as the best plan is simulated.
ROUNDING = 1e-9


class Plan(NamedTuple):
    """A plan with its score in front, so that plans sort by it."""

    score: float
    length: int
    coins: Coins


class LinearModel:
    """Evaluates plans of one problem by their coins, without simulating each step.

    `gains` and `holds` are what one unit of throttle adds to the distance and to the final speed, by place; the sums
    are those of all places up to one. Throttles differ from the idle one by `low` to `high`; coins are of `coin_low`
    to `coin_high`, and of 0 only where the range has both directions, or nothing else.
    """

    def __init__(self, problem: PlanningProblem) -> None:
        self.problem = problem
        objective, mass = problem.objective, problem.mass
        self.longest = objective.max_sequence_length
        lowest, highest = objective.throttle_range
        self.idle = min(max(0, lowest), highest)
        self.low, self.high = lowest - self.idle, highest - self.idle
        self.coin_low = min(1, self.high) if self.low == 0 else self.low
        self.coin_high = max(-1, self.low) if self.high == 0 else self.high
        self.fading = problem.friction / (1.0 - problem.friction)
        self.threshold = objective.speed_threshold
        self.distance_weight, self.speed_weight = objective.distance_weight, objective.speed_weight
        self.mass = mass
        # Where the throttle cannot be 0, each step costs what a throttle costs.
        self.step_cost = objective.length_weight + (objective.nonzero_weight if self.idle else 0.0)
        self.coin_cost = 0.0 if self.idle else objective.nonzero_weight
        powers: list[float] = list(accumulate(repeat(1.0 - problem.friction, self.longest), mul))
        self.holds: list[float] = [0.0, *(power / mass for power in powers)]
        self.gains: list[float] = [0.0, *(way / mass for way in accumulate(powers))]
        self.hold_sums = list(accumulate(self.holds))
        self.gain_sums = list(accumulate(self.gains))
        self._distance, self._momentum = problem.distance, problem.speed * mass

    def missing(self, length: int) -> float:
        """Return the distance that is left to cover if every step idles."""
        return self._distance - self._momentum * self.gains[length] - self.idle * self.gain_sums[length]

    def idle_speed(self, length: int) -> float:
        """Return the final speed if every step idles."""
        return self._momentum * self.holds[length] + self.idle * self.hold_sums[length]

    def rest(self, length: int, coins: Iterable[tuple[int, int]]) -> tuple[float, float]:
        """Return the distance that is left to cover with these coins, and the final speed."""
        gains, holds = self.gains, self.holds
        missing, speed = self.missing(length), self.idle_speed(length)
        for place, coin in coins:
            missing -= gains[place] * coin
            speed += holds[place] * coin
        return missing, speed

    def cost(self, missing: float, speed: float) -> float:
        """Return what it costs to miss so much distance and to end with this speed."""
        beyond = speed - self.threshold
        if beyond < 0.0:
            beyond = 0.0 if speed >= -ROUNDING else -beyond
        return self.distance_weight * abs(missing) + self.speed_weight * beyond

    def fixed_cost(self, length: int, count: int) -> float:
        """Return what a plan of this length with so many coins costs in any case."""
        return self.step_cost * length + self.coin_cost * count

    def plan(self, length: int, coins: Coins) -> Plan:
        """Score a plan, as `physics.score_parts` totals it up to rounding."""
        score = self.cost(*self.rest(length, coins)) + self.fixed_cost(length, len(coins))
        return Plan(score, length, coins)

    def throttles(self, plan: Plan) -> list[int]:
        """Return the throttles of a plan, first step first."""
        throttles = [self.idle] * plan.length
        for place, coin in plan.coins:
            throttles[-place] += coin
        return throttles
