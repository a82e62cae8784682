"""How new plans come of old ones: crossover and mutation of coins, and a repair that makes the distance fit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from throttling_sequencer.domain.genetic_path.closing import Closing
from throttling_sequencer.domain.genetic_path.linear_model import LinearModel, Plan
from throttling_sequencer.domain.genetic_path.shapes import Shapes

_T = TypeVar("_T")

_CROSSOVER_SHARE = 0.15

# How often another total is looked for around the parent's, and not around the most promising one.
_FAITHFUL_SHARE = 0.5

# How often coins keep their distance from the first step when a plan becomes longer or shorter.
_ALIGNED_SHARE = 0.7

# How often a coin moves to the next place, and not to any.
_NEXT_PLACE_SHARE = 0.7

# How often one of the two last coins stays at its place, when they are set anew.
_STAYING_SHARE = 0.4

# How often the two last coins stay at their places and their total is free, not the other way round.
_VALUES_SHARE = 0.5

# Values that are tried for one of them, at most.
_MOST_VALUES = 100

# Descendants are made anew, so often at most, while nothing of their shape can be better than the best plan.
_TRIES = 4


@dataclass(slots=True)
class _Draft:
    """A plan in the making: its length, its coins by place, and the total that they are to have in the end."""

    length: int
    coins: dict[int, int]
    total: int


class Evolution:
    """Makes descendants for one problem, from one source of randomness."""

    def __init__(self, model: LinearModel, shapes: Shapes, random: Random) -> None:
        self._model, self._shapes, self._random = model, shapes, random
        self._closing = Closing(model)
        self._low, self._high = model.coin_low, model.coin_high
        # Each unit of throttle adds at most 1/mass to the final speed, which is allowed up to the threshold.
        self._widest = max(2, min(int(model.mass * model.threshold), self._high - self._low))

    def random_plan(self) -> Plan:
        """Make a plan of any length with any coins."""
        length = self._random.randint(1, self._model.longest)
        count = self._random.randint(0, length) if self._low else 0
        places = sorted(self._random.sample(range(1, length + 1), count))
        return self._model.plan(length, tuple((place, self._any_coin()) for place in places))

    def child(self, mother: Plan, father: Plan, mutation_rate: float, limit: float) -> Plan:
        """Make a descendant, as far as possible of a shape that may score below the limit.

        It has coins of both parents, or is a mutant of the first; it mutates once more at the rate.
        """
        for _ in range(_TRIES):
            draft = self._descendant(mother, father)
            if self._random.random() < mutation_rate:
                self._mutate(draft)
            draft.total = min(max(draft.total, len(draft.coins) * self._low), len(draft.coins) * self._high)
            if self._is_promising(draft, limit):
                break
        self._close(draft)
        coins = tuple(sorted((place, coin) for place, coin in draft.coins.items() if coin))
        return self._model.plan(draft.length, coins)

    def _is_promising(self, draft: _Draft, limit: float) -> bool:
        bound, rest = self._shapes.promise(draft.length, len(draft.coins), draft.total)
        if bound < limit and draft.total != rest.total:
            bound = self._shapes.bounds.cost(rest._replace(total=draft.total))
            bound += self._model.fixed_cost(draft.length, len(draft.coins))
        return bound < limit

    def _descendant(self, mother: Plan, father: Plan) -> _Draft:
        draft = _Draft(mother.length, dict(mother.coins), sum(coin for _, coin in mother.coins))
        if self._random.random() < _CROSSOVER_SHARE:
            cut = self._random.randint(0, mother.length)
            draft.coins = {place: coin for place, coin in mother.coins if place > cut}
            draft.coins.update((place, coin) for place, coin in father.coins if place <= cut)
            self._take_best_total(draft)
        else:
            self._mutate(draft)
        return draft

    def _mutate(self, draft: _Draft) -> None:
        mutations = [self._add, self._resize]
        if draft.coins:
            mutations += [self._drop, self._resize, *[self._set_total, self._move, self._change] * 2]
        self._any(mutations)(draft)

    def _add(self, draft: _Draft) -> None:
        """Put one coin more."""
        if len(draft.coins) < draft.length and self._low:
            draft.coins[self._free_place(draft)] = self._any_coin()
            self._take_best_total(draft)

    def _drop(self, draft: _Draft) -> None:
        """Leave out a coin."""
        del draft.coins[self._place_of_coin(draft)]
        self._take_best_total(draft)

    def _resize(self, draft: _Draft) -> None:
        """Coast a little longer or shorter, or begin a little earlier or later."""
        change = self._any((-3, -2, -1, -1, -1, 1, 1, 1, 2, 3))
        length = min(max(1, draft.length + change), self._model.longest)
        shift = length - draft.length if self._random.random() < _ALIGNED_SHARE else 0
        draft.coins = {place + shift: coin for place, coin in draft.coins.items() if 1 <= place + shift <= length}
        draft.length = length
        self._take_best_total(draft)

    def _set_total(self, draft: _Draft) -> None:
        """Aim at another final speed."""
        if self._random.random() >= _FAITHFUL_SHARE:
            self._take_best_total(draft)
        draft.total += self._some_amount(self._widest)

    def _move(self, draft: _Draft) -> None:
        """Put a coin at another place."""
        if len(draft.coins) < draft.length:
            place = self._place_of_coin(draft)
            other = place + self._any((-1, 1))
            is_next = self._random.random() < _NEXT_PLACE_SHARE
            if not is_next or other in draft.coins or not 1 <= other <= draft.length:
                other = self._free_place(draft)
            draft.coins[other] = draft.coins.pop(place)

    def _change(self, draft: _Draft) -> None:
        """Change a coin, for the others to make up for it."""
        place = self._place_of_coin(draft)
        coin = draft.coins[place] + self._some_amount(max(2, self._high - self._low))
        draft.coins[place] = min(max(coin, self._low), self._high) or draft.coins[place]

    def _some_amount(self, limit: int) -> int:
        """Return any amount in either direction, of all orders of magnitude alike."""
        amount = int(math.exp(self._random.random() * math.log(limit)))
        return amount if self._random.random() < 0.5 else -amount  # noqa: PLR2004 - one way as often as the other

    def _any(self, things: Sequence[_T]) -> _T:
        return things[int(self._random.random() * len(things))]

    def _any_coin(self) -> int:
        return self._random.randint(self._low, self._high) or self._high

    def _place_of_coin(self, draft: _Draft) -> int:
        return self._any(list(draft.coins))

    def _free_place(self, draft: _Draft) -> int:
        place = 1 + int(self._random.random() * draft.length)
        while place in draft.coins:
            place = place % draft.length + 1
        return place

    def _take_best_total(self, draft: _Draft) -> None:
        _, rest = self._shapes.promise(draft.length, len(draft.coins), draft.total)
        draft.total = rest.total

    def _close(self, draft: _Draft) -> None:
        """Set two coins anew so that the total is kept and the distance fits, or the only one so that it fits."""
        if len(draft.coins) > 1:
            self._close_two(draft)
        elif draft.coins:
            place = self._place_of_coin(draft)
            is_staying = self._random.random() < _STAYING_SHARE
            del draft.coins[place]
            if not is_staying:
                place = self._free_place(draft)
            draft.coins[place] = self._closing.coin(place, self._model.missing(draft.length))

    def _close_two(self, draft: _Draft) -> None:
        place = self._place_of_coin(draft)
        coin = draft.coins.pop(place)
        other = self._place_of_coin(draft)
        del draft.coins[other]
        missing, speed = self._model.rest(draft.length, draft.coins.items())
        if self._random.random() < _VALUES_SHARE and self._close_by_values(draft, place, other, missing, speed):
            return
        total = min(max(draft.total - sum(draft.coins.values()), 2 * self._low), 2 * self._high)
        wanted = self._distance_wanted(missing, speed + total / self._model.mass)
        if self._random.random() >= _STAYING_SHARE:
            place = self._free_place(draft)
        pair = self._closing.pair(wanted, total, place, (1, draft.length), draft.coins)
        if pair:
            draft.coins[pair.place], draft.coins[pair.other_place] = pair.coin, pair.other_coin
        else:
            draft.coins[place] = coin

    def _close_by_values(self, draft: _Draft, place: int, other: int, missing: float, speed: float) -> bool:
        """Let the total be any that ends with an allowed final speed; tell whether there is one."""
        allowed = self._closing.allowed(missing, speed, place, other)
        if not allowed:
            return False
        first = int(self._random.random() * max(1, len(allowed) - _MOST_VALUES))
        coins = self._closing.pair_at(missing, place, other, allowed[first : first + _MOST_VALUES])
        draft.coins[place], draft.coins[other] = coins
        return True

    def _distance_wanted(self, missing: float, pushed: float) -> float:
        """Return what is missing, or the distance that leaves an allowed final speed where that is cheaper."""
        model = self._model
        speed = pushed - missing * model.fading
        if 0.0 <= speed <= model.threshold or model.fading == 0.0:
            return missing
        allowed = model.threshold if speed > 0.0 else 0.0
        distance = (pushed - allowed) / model.fading
        return distance if model.cost(missing - distance, allowed) < model.cost(0.0, speed) else missing
