"""Which plans to build first: shapes of plans, ordered by what they cost at least."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

from throttling_sequencer.domain.genetic_path.bounds import ANY, BACKWARD, FORWARD, Bounds, Rest
from throttling_sequencer.domain.genetic_path.descent import descend
from throttling_sequencer.domain.genetic_path.linear_model import LinearModel

# Lengths that are looked at first; those between them follow where it is promising.
_FIRST_LENGTHS = 17

# Shapes whose bound is remembered, at most.
_REMEMBERED = 200_000

# How much of a shape is known; with the same hope, those are taken up first of which more is.
_WITH_COUNT, _LENGTH_ONLY, _UNKNOWN = 0, 1, 2


class _Open(NamedTuple):
    """A shape that has not had its turn, which comes in the order of `hope`.

    Where only the length is known, the bound is too good to be true, by about as much for one length as for another.
    Shapes with coins keep the hope of their length, so that they are built before all lengths have been looked at.
    `way` is where further numbers of coins are to be opened from here.
    """

    hope: float
    kind: int
    length: int
    side: int
    coins: int
    way: int
    total: int
    bound: float


class Shapes:
    """The shapes that plans of a problem can have: a length, a number of coins, and on which side they end."""

    def __init__(self, model: LinearModel) -> None:
        self._model = model
        self._loose = Bounds(model, model.low, model.high)
        self.bounds = Bounds(model, model.coin_low, model.coin_high)
        self._promises: dict[tuple[int, int], tuple[float, Rest]] = {}
        self._promises_of_sides: dict[tuple[int, int, int], tuple[float, Rest]] = {}
        self._open: list[_Open] = []
        self._gaps: list[tuple[float, int, int]] = []
        self._lengths: dict[int, float] = {}
        self._usual_count = 0
        last = _FIRST_LENGTHS - 1
        lengths = sorted({1 + (model.longest - 1) * number // last for number in range(_FIRST_LENGTHS)})
        for length in lengths:
            self._open_length(length)
        for lower, upper in pairwise(lengths):
            self._open_gap(lower, upper)

    def most_promising(self, limit: Callable[[], float]) -> Iterator[Rest | None]:
        """Yield shapes that may cost less than the limit, the most promising first, and what their total should be.

        Yields None between them, so that a caller can look at the clock.
        """
        is_begun = False
        while self._gaps or self._open:
            # Before there is any plan, the first lengths will do.
            if self._gaps and (not self._open or (is_begun and self._gaps[0][0] < self._open[0].hope)):
                self._look_into_gap()
                yield None
            elif self._open[0].hope < limit():
                rest = self._next(limit())
                is_begun = is_begun or rest is not None
                yield rest
            else:
                self._open.clear()

    def promise(self, length: int, count: int, guess: int) -> tuple[float, Rest]:
        """Return what plans with so many coins cost at least, and with which total; `guess` may be near it."""
        found = self._promises.get((length, count))
        if found is None:
            if len(self._promises) >= _REMEMBERED:
                self._promises.clear()
            found = min(self._promise(length, count, side, guess) for side in self._sides(length))
            self._promises[length, count] = found
        return found

    def _promise(self, length: int, count: int, side: int, guess: int) -> tuple[float, Rest]:
        found = self._promises_of_sides.get((length, count, side))
        if found is None:
            if len(self._promises_of_sides) >= _REMEMBERED:
                self._promises_of_sides.clear()
            bound, rest = self.bounds.with_cheapest_total(self._whole(length, count, guess, side))
            found = bound + self._model.fixed_cost(length, count), rest
            self._promises_of_sides[length, count, side] = found
        return found

    def _sides(self, length: int) -> tuple[int, ...]:
        slowest = self._model.idle_speed(length) + self._model.low * self._model.hold_sums[length]
        return (ANY,) if slowest >= 0.0 else (FORWARD, BACKWARD)

    def _whole(self, length: int, count: int, total: int, side: int) -> Rest:
        return Rest(self._model.missing(length), self._model.idle_speed(length), 0, length, count, total, side)

    def _open_gap(self, lower: int, upper: int) -> None:
        """Remember that there are lengths in between: at best they cost less by being shorter."""
        if upper - lower > 1:
            hope = self._model.step_cost * (upper - lower)
            heappush(self._gaps, (min(self._lengths[lower], self._lengths[upper]) - hope, lower, upper))

    def _look_into_gap(self) -> None:
        _, lower, upper = heappop(self._gaps)
        middle = (lower + upper) // 2
        self._open_length(middle)
        self._open_gap(lower, middle)
        self._open_gap(middle, upper)

    def _open_length(self, length: int) -> None:
        model, bound = self._model, math.inf
        for side in self._sides(length):
            if math.isinf(bound):
                bound = self._open_side(length, side)
            else:
                # Who can end forward seldom wants to end backward, which costs this at least.
                backward = model.step_cost * length + model.speed_weight * model.threshold
                heappush(self._open, _Open(backward, _UNKNOWN, length, side, 0, 0, 0, backward))
        self._lengths[length] = bound

    def _open_side(self, length: int, side: int) -> float:
        bound, rest = self._loose.with_cheapest_total(
            self._whole(length, length, self._total_needed(length, side), side)
        )
        bound += self._model.fixed_cost(length, self._fewest_coins(rest.total))
        if not math.isinf(bound):
            heappush(self._open, _Open(bound, _LENGTH_ONLY, length, side, 0, 0, rest.total, bound))
        return bound

    def _fewest_coins(self, total: int) -> int:
        strongest = self._model.coin_high if total > 0 else self._model.coin_low
        return -(-total // strongest) if total else 0

    def _total_needed(self, length: int, side: int) -> int:
        """Return the least total that covers the distance, and that ends on this side if it does so exactly."""
        model, missing = self._model, self._model.missing(length)
        low, high, sums = model.low, model.high, model.gain_sums

        def covered(full: int) -> float:
            return high * (sums[length] - sums[length - full]) + low * sums[length - full]

        full = bisect_left(range(length), missing, key=covered)
        surplus = (covered(full) - missing) / model.gains[min(length - full + 1, length)]
        stopping = math.ceil(model.mass * (missing * model.fading - model.idle_speed(length)))
        total = full * high + (length - full) * low - int(surplus)
        return min(total, stopping - 1) if side == BACKWARD else max(total, stopping)

    def _next(self, limit: float) -> Rest | None:
        """Take up the most promising shape, and open those beside it."""
        shape = heappop(self._open)
        if shape.bound >= limit:
            return None
        if shape.kind == _UNKNOWN:
            self._open_side(shape.length, shape.side)
            return None
        most = shape.length if self._model.low < self._model.high else 0
        if shape.kind == _LENGTH_ONLY:
            count = self._cheapest_count(shape.length, shape.side, most, shape.total)
            bound, _ = self._promise(shape.length, count, shape.side, shape.total)
            self._open_count(shape._replace(bound=bound), count, 0)
            return None
        if shape.way <= 0 and shape.coins > 0:
            self._open_count(shape, shape.coins - 1, -1)
        if shape.way >= 0 and shape.coins < most:
            self._open_count(shape, shape.coins + 1, 1)
        return self._promise(shape.length, shape.coins, shape.side, shape.total)[1]

    def _open_count(self, shape: _Open, count: int, way: int) -> None:
        bound, rest = self._promise(shape.length, count, shape.side, shape.total)
        if not math.isinf(bound):
            hope = shape.hope + bound - shape.bound
            heappush(self._open, _Open(hope, _WITH_COUNT, shape.length, shape.side, count, way, rest.total, bound))

    def _cheapest_count(self, length: int, side: int, most: int, total: int) -> int:
        """Return the number of coins that the bound likes best, beginning with the fewest that make up the total."""

        def cost_of(count: int) -> float:
            return self._promise(length, count, side, total)[0]

        here = min(max(self._fewest_coins(total), self._usual_count), most)
        while math.isinf(cost_of(here)) and here < most:
            here = min(2 * here + 1, most)
        _, self._usual_count = descend(cost_of, here, 0, most)
        return self._usual_count
