"""What plans cost at least of which only a part is decided: what tells promising ones from others.

Wherever coins of a known number and total lie, the distance that they add is between two chains: with as many as
possible at their highest value in the first steps, or in the last ones. Coins of the total U that add the distance x
leave the final speed `speed without them + U/mass - x · friction/(1 - friction)`, so that the best distance between
the chains is known at once. What it costs is convex in the total as long as all plans end forward, or all backward.
"""

import math
from typing import NamedTuple

from throttling_sequencer.domain.genetic_path.descent import descend
from throttling_sequencer.domain.genetic_path.linear_model import ROUNDING, LinearModel

# Which final speeds are meant: all, none of which can be negative; those that are not negative; those that are.
ANY, FORWARD, BACKWARD = 0, 1, -1

# A total that no plan can have is left in strides that grow by this.
_HASTE = 4

_Chains = tuple[float, float]


class Rest(NamedTuple):
    """What is left to do for so many `coins` of this total, at places above `bottom` and up to `top`.

    That is to cover `missing`, from `speed` on, which is the final speed that there is without them, and to end on
    this side.
    """

    missing: float
    speed: float
    bottom: int
    top: int
    coins: int
    total: int
    side: int


class Bounds:
    """Bounds for coins with values from `low` to `high`."""

    def __init__(self, model: LinearModel, low: int, high: int) -> None:
        self.low, self.high = low, high
        self._model = model

    def cost(self, rest: Rest) -> float:
        """Return what distance and final speed cost at least; infinite where no plan ends on this side."""
        return self.aim(rest)[0]

    def aim(self, rest: Rest) -> tuple[float, float]:
        """Return the least cost, and which distance it is that costs so little if the coins add it."""
        missing, speed, _, _, _, total, side = rest
        model, fading = self._model, self._model.fading
        least, greatest = self._reach(rest)
        pushed = speed + total / model.mass
        if fading == 0.0:
            return self._aim_without_friction(rest, least, greatest)
        if side != ANY:
            stopping = (pushed + ROUNDING) / fading
            least, greatest = (least, min(greatest, stopping)) if side == FORWARD else (max(least, stopping), greatest)
            if least > greatest or (side == BACKWARD and least == greatest == stopping):
                return math.inf, missing
        gained = min(max(missing, least), greatest)
        beyond = pushed - gained * fading - model.threshold
        if beyond <= 0.0 and side != BACKWARD:
            return model.distance_weight * abs(missing - gained), gained
        cost = model.distance_weight * abs(missing - gained) + model.speed_weight * abs(beyond)
        # Where it is the speed that counts most, the best distance is another one.
        slowest = least if side == BACKWARD else min(max((pushed - model.threshold) / fading, least), greatest)
        beyond = pushed - slowest * fading - model.threshold
        beyond = abs(beyond) if side == BACKWARD else max(0.0, beyond)
        return min(
            (cost, gained), (model.distance_weight * abs(missing - slowest) + model.speed_weight * beyond, slowest)
        )

    def _aim_without_friction(self, rest: Rest, least: float, greatest: float) -> tuple[float, float]:
        model = self._model
        pushed = rest.speed + rest.total / model.mass
        if rest.side != ANY and (pushed >= -ROUNDING) != (rest.side == FORWARD):
            return math.inf, rest.missing
        # Every distance is a whole number of 1/mass.
        whole = math.floor(rest.missing * model.mass + 0.5) / model.mass
        gained = min(max(whole, least), greatest)
        return model.cost(rest.missing - gained, pushed), gained

    def _reach(self, rest: Rest) -> _Chains:
        """Return the least and the greatest distance that the coins can add, were only their total whole."""
        _, _, bottom, top, count, total, _ = rest
        full, part = count, 0.0
        if count > 0 and self.high > self.low:
            filled = (total - count * self.low) / (self.high - self.low)
            full = min(int(filled), count - 1)
            part = filled - full
        if self.low > 0:
            return self._positive_chains(bottom, top, count, full, part)
        if self.high < 0:
            return self._negative_chains(bottom, top, count, full, part)
        return self._mixed_chains(bottom, top, count, full, part)

    def _positive_chains(self, bottom: int, top: int, count: int, full: int, part: float) -> _Chains:
        """Let coins that all push forward be at one end of the places, the highest ones outermost."""
        low, high, sums, gains = self.low, self.high, self._model.gain_sums, self._model.gains
        greatest = high * (sums[top] - sums[top - full]) + low * (sums[top - full] - sums[top - count])
        least = high * (sums[bottom + full] - sums[bottom]) + low * (sums[bottom + count] - sums[bottom + full])
        if part > 0.0:
            greatest += part * (high - low) * gains[top - full]
            least += part * (high - low) * gains[bottom + full + 1]
        return least, max(least, greatest)

    def _negative_chains(self, bottom: int, top: int, count: int, full: int, part: float) -> _Chains:
        """Let coins that all push backward be at one end of the places, the lowest ones outermost."""
        low, high, sums, gains = self.low, self.high, self._model.gain_sums, self._model.gains
        others = count - full
        greatest = low * (sums[bottom + others] - sums[bottom]) + high * (sums[bottom + count] - sums[bottom + others])
        least = low * (sums[top] - sums[top - others]) + high * (sums[top - others] - sums[top - count])
        if part > 0.0:
            greatest += part * (high - low) * gains[bottom + others]
            least += part * (high - low) * gains[top - others + 1]
        return least, max(least, greatest)

    def _mixed_chains(self, bottom: int, top: int, count: int, full: int, part: float) -> _Chains:
        """Let coins that push forward be at one end of the places, and those that push backward at the other."""
        low, high, sums, gains = self.low, self.high, self._model.gain_sums, self._model.gains
        others = count - full
        greatest = high * (sums[top] - sums[top - full]) + low * (sums[bottom + others] - sums[bottom])
        least = high * (sums[bottom + full] - sums[bottom]) + low * (sums[top] - sums[top - others])
        if part > 0.0:
            greatest += part * (high * gains[top - full] - low * gains[bottom + others])
            least += part * (high * gains[bottom + full + 1] - low * gains[top - others + 1])
        return least, max(least, greatest)

    def with_cheapest_total(self, rest: Rest) -> tuple[float, Rest]:
        """Return the least bound of any total, and the rest with that total; `rest.total` is a guess."""
        first, last = rest.coins * self.low, rest.coins * self.high
        missing, speed, bottom, top, count, _, side = rest

        def cost_of(total: int) -> float:
            return self.aim(Rest(missing, speed, bottom, top, count, total, side))[0]

        here, stride = min(max(rest.total, first), last), 1
        # Each unit of throttle adds final speed: where no plan ends on the side, there is one way to go.
        while math.isinf(cost_of(here)) and first <= here + side <= last:
            here, stride = min(max(here + side * stride, first), last), stride * _HASTE
        cost, total = descend(cost_of, here, first, last)
        return cost, rest._replace(total=total)
