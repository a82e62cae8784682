"""How the last coins of a plan are set, so that it covers the distance that it should."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Container, Sequence
from typing import NamedTuple

from throttling_sequencer.domain.genetic_path.linear_model import LinearModel

# Places that are tried for one coin, at most: long plans have more, all alike.
_MOST_PLACES = 128


def spread(first: int, last: int) -> Sequence[int]:
    """Return the places from the first to the last, or some of them where there are many."""
    return range(first, last + 1, 1 + max(0, last - first) // _MOST_PLACES)


class Pair(NamedTuple):
    """By how much two coins miss the distance wanted; their places and values."""

    missed: float
    place: int
    coin: int
    other_place: int
    other_coin: int


class Closing:
    """Sets the last coins of plans of one problem."""

    def __init__(self, model: LinearModel) -> None:
        self._model = model
        self._low, self._high = model.coin_low, model.coin_high

    def coin(self, place: int, missing: float) -> int:
        """Return the coin at this place that comes nearest to what is missing."""
        return round(min(max(missing / self._model.gains[place], self._low), self._high))

    def pair(
        self, wanted: float, total: int, place: int, free: tuple[int, int], taken: Container[int] = ()
    ) -> Pair | None:
        """Return the two coins of this total, one of them at this place, that come nearest to the distance wanted.

        The other one is at one of the `free` places (from the first to the last), those `taken` excepted, or of some
        of them where there are many; None where there is no such place.
        """
        # Were all of the total at the place, this would be lacking. Each unit that is put elsewhere adds the same
        # distance, so that what is missed in the end is what a division leaves over.
        lacking = wanted - total * self._model.gains[place]
        least, most = max(self._low, total - self._high), min(self._high, total - self._low)
        pairs = [
            self._pair(lacking, total, place, values, self._places(lacking, place, values, free, taken))
            for values in ((max(least, 1), most), (least, min(most, -1)))
            if values[0] <= values[1]
        ]
        return min((pair for pair in pairs if pair), default=None)

    def _places(
        self, lacking: float, place: int, values: tuple[int, int], free: tuple[int, int], taken: Container[int]
    ) -> Sequence[int]:
        """Return the places from which such values can make up for what is lacking, else those that come nearest."""
        gains, (first, last) = self._model.gains, free
        here = gains[place]
        ends = here + lacking / values[0], here + lacking / values[1]
        start = bisect_left(gains, min(ends), first, last + 1)
        end = bisect_right(gains, max(ends), first, last + 1)
        able = spread(start, end - 1)
        # Far from the end, with much friction, all places are alike.
        places = [other for other in able if gains[other] != here and other not in taken]
        near = (first, start - 1, start, end, last)
        return places or [
            other for other in near if first <= other <= last and gains[other] != here and other not in taken
        ]

    def _pair(
        self, lacking: float, total: int, place: int, values: tuple[int, int], places: Sequence[int]
    ) -> Pair | None:
        if not places:
            return None
        gains, here = self._model.gains, self._model.gains[place]
        left_over = [abs((lacking + (gap := gains[other] - here) / 2) % gap - gap / 2) for other in places]
        other = places[left_over.index(min(left_over))]
        gap = gains[other] - here
        # Bounded first: with hardly any friction the quotient may be infinite.
        coin = round(min(max(lacking / gap, values[0]), values[1]))
        return Pair(abs(lacking - coin * gap), place, total - coin, other, coin)

    def allowed(self, missing: float, speed: float, place: int, other: int) -> range:
        """Return the coins for this place with which one at the other place can complete the distance.

        The final speed, `speed` without the two, is then an allowed one.
        """
        model = self._model
        share, hold = model.gains[place] / model.gains[other], model.holds[other]
        final, change = speed + hold * missing / model.gains[other], model.holds[place] - hold * share
        needed = missing / model.gains[other]
        limits = [(self._low, self._high), _between(needed - self._high, needed - self._low, share)]
        if change:
            limits.append(_between(-final, model.threshold - final, change))
        elif not 0.0 <= final <= model.threshold:
            return range(0)
        least, most = max(low for low, _ in limits), min(high for _, high in limits)
        return range(math.ceil(least), math.floor(most) + 1) if least <= most else range(0)

    def pair_at(self, missing: float, place: int, other: int, coins: range) -> tuple[int, int]:
        """Return which of these coins for the place, and which one for the other, come nearest to what is missing."""
        here, there = self._model.gains[place], self._model.gains[other]
        left_over = [abs((missing - here * coin + there / 2) % there - there / 2) for coin in coins]
        coin = coins[left_over.index(min(left_over))]
        return coin, self.coin(other, missing - here * coin)


def _between(low: float, high: float, per_unit: float) -> tuple[float, float]:
    ends = low / per_unit, high / per_unit
    return min(ends), max(ends)
