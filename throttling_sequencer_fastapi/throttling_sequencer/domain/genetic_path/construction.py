"""Plans built rather than searched: a burst as strong as it may be, a few coins that correct it, and a coast."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from throttling_sequencer.domain.genetic_path.bounds import Rest
from throttling_sequencer.domain.genetic_path.closing import Closing, spread
from throttling_sequencer.domain.genetic_path.descent import descend, last_where
from throttling_sequencer.domain.genetic_path.linear_model import LinearModel, Plan
from throttling_sequencer.domain.genetic_path.shapes import Shapes

# By how much a bound may grow from one decision to the next, for it is a sum of floats.
_TOLERANCE = 1e-9

# Places that are tried for one of the last two coins.
_PLACES_TRIED = 12

# Coins that are decided one by one, at most. More are needed only where the bound is too coarse to tell them apart.
_MOST_DECISIONS = 40

# Coins that are set together, at the end.
_LAST = 2

_CoinList: TypeAlias = list[tuple[int, int]]


class Construction:
    """Builds one plan for each shape, the most promising shapes first.

    It decides coin after coin in a way that does not raise the bound of what is left: as many as possible at their
    highest value in the first steps or at their lowest in the last ones, then the one nearest to the end, which sets
    the final speed coarsely. The last two are set so that the distance fits.
    """

    def __init__(self, model: LinearModel, shapes: Shapes) -> None:
        self._model = model
        self._shapes = shapes
        self._bounds = shapes.bounds
        self._closing = Closing(model)

    def plans(self, limit: Callable[[], float]) -> Iterator[Plan | None]:
        """Yield plans of shapes that may cost less than the limit, and None where some time went by without one."""
        for rest in self._shapes.most_promising(limit):
            yield rest and self._build(rest)

    def _build(self, rest: Rest) -> Plan:
        length = rest.top
        coins: _CoinList = []
        for _ in range(_MOST_DECISIONS):
            if rest.coins > _LAST:
                rest = self._decide(rest, coins)
        if rest.coins == 1:
            self._close_one(rest, coins)
        elif rest.coins > 1:
            self._close_two(rest, coins)
        return self._model.plan(length, tuple(sorted((place, coin) for place, coin in coins if coin)))

    def _decide(self, rest: Rest, coins: _CoinList) -> Rest:
        """Decide one coin at least, and as many as go with it."""
        limit = self._bounds.cost(rest) + _TOLERANCE
        rest = self._with_burst(rest, limit, coins)
        rest = self._with_late_coins(rest, limit, coins)
        if rest.coins > _LAST:
            rest = self._with_last_coin(rest, limit, coins)
        return rest

    def _with_burst(self, rest: Rest, limit: float, coins: _CoinList) -> Rest:
        """Give as many of the first steps as the limit allows their highest value."""

        def after(many: int) -> Rest:
            left = self._after_run(rest, rest.top - many, rest.top, self._bounds.high)
            return left._replace(top=rest.top - many)

        many = last_where(lambda many: self._is_within(after(many), limit), 0, rest.coins - _LAST)
        coins += [(rest.top - step, self._bounds.high) for step in range(many)]
        return after(many)

    def _with_late_coins(self, rest: Rest, limit: float, coins: _CoinList) -> Rest:
        """Give as many of the last steps as the limit allows their lowest value."""

        def after(many: int) -> Rest:
            left = self._after_run(rest, rest.bottom, rest.bottom + many, self._bounds.low)
            return left._replace(bottom=rest.bottom + many)

        many = last_where(lambda many: self._is_within(after(many), limit), 0, rest.coins - _LAST)
        coins += [(rest.bottom + step, self._bounds.low) for step in range(1, many + 1)]
        return after(many)

    def _after_run(self, rest: Rest, below: int, to: int, coin: int) -> Rest:
        """Return what is left to do after such coins at all places above one and up to another."""
        gains, holds = self._model.gain_sums, self._model.hold_sums
        return rest._replace(
            missing=rest.missing - coin * (gains[to] - gains[below]),
            speed=rest.speed + coin * (holds[to] - holds[below]),
            coins=rest.coins - (to - below),
            total=rest.total - coin * (to - below),
        )

    def _is_within(self, rest: Rest, limit: float) -> bool:
        low, high = self._bounds.low, self._bounds.high
        return rest.coins * low <= rest.total <= rest.coins * high and self._bounds.cost(rest) <= limit

    def _with_last_coin(self, rest: Rest, limit: float, coins: _CoinList) -> Rest:
        """Put the coin that is nearest to the end as far from it as the limit allows, with the value it likes best."""
        place = self._farthest_place(rest, limit)
        others = rest.coins - 1
        least = max(self._bounds.low, rest.total - others * self._bounds.high)
        most = min(self._bounds.high, rest.total - others * self._bounds.low)

        def cost_with(coin: int) -> float:
            return self._bounds.cost(self._after(rest, place, coin))

        # Who cannot end forward with the least value can with more, or not at all.
        guess = most if math.isinf(cost_with(least)) else least
        _, coin = descend(cost_with, guess, least, most, limit)
        coins.append((place, coin))
        return self._after(rest, place, coin)

    def _farthest_place(self, rest: Rest, limit: float) -> int:
        def is_within(place: int) -> bool:
            return self._bounds.cost(rest._replace(bottom=place - 1)) <= limit

        return last_where(is_within, rest.bottom + 1, rest.top - rest.coins + 1)

    def _after(self, rest: Rest, place: int, coin: int) -> Rest:
        missing = rest.missing - self._model.gains[place] * coin
        speed = rest.speed + self._model.holds[place] * coin
        return Rest(missing, speed, place, rest.top, rest.coins - 1, rest.total - coin, rest.side)

    def _close_two(self, rest: Rest, coins: _CoinList) -> None:
        cost, wanted = self._bounds.aim(rest)
        farthest = self._farthest_place(rest, cost + _TOLERANCE)
        near = farthest - rest.bottom - 1
        places = {farthest - near * number // (_PLACES_TRIED - 1) for number in range(_PLACES_TRIED)}
        free = rest.bottom + 1, rest.top
        tried = (self._closing.pair(wanted, rest.total, place, free) for place in sorted({*places, farthest + 1}))
        endings = [[(pair.place, pair.coin), (pair.other_place, pair.other_coin)] for pair in tried if pair]
        coins += min(endings, key=lambda ending: self._cost_with(rest, ending), default=[])

    def _close_one(self, rest: Rest, coins: _CoinList) -> None:
        """Put the last coin where its total fits best, or with another value where that fits better."""
        gains, first, last = self._model.gains, rest.bottom + 1, rest.top
        tried = [(place, self._closing.coin(place, rest.missing)) for place in spread(first, last)]
        if rest.total:
            place = bisect_left(gains, rest.missing / rest.total, first, last)
            tried += [(place, rest.total), (max(first, place - 1), rest.total)]
        coins.append(min(tried, key=lambda coin: self._cost_with(rest, [coin])))

    def _cost_with(self, rest: Rest, coins: Iterable[tuple[int, int]]) -> float:
        for place, coin in coins:
            rest = self._after(rest, place, coin)
        return self._model.cost(rest.missing, rest.speed)
