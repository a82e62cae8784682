"""Where a function of whole numbers is least, and how far something holds."""

import math
from collections.abc import Callable

# A guess that is wrong is left in strides that grow by this, as it may be wrong by much.
_HASTE = 4


def descend(
    cost_of: Callable[[int], float], guess: int, first: int, last: int, enough: float = 0.0
) -> tuple[float, int]:
    """Return the least cost between first and last, and where that is; or any that is enough.

    Few evaluations are needed where the guess is near. An infinite cost is a wall.
    """
    here, cost, stride, way, is_near = guess, cost_of(guess), 1, -1, False
    while enough < cost < math.inf and stride:
        for other in (here + way * stride, here - way * stride):
            if first <= other <= last and (found := cost_of(other)) < cost:
                way = 1 if other > here else -1
                here, cost = other, found
                break
        else:
            is_near = True
        stride = stride // 2 if is_near else stride * _HASTE
    return cost, here


def last_where(holds: Callable[[int], bool], first: int, last: int) -> int:
    """Return the last number up to which it holds; the first one, where it holds nowhere."""
    while first < last:
        middle = (first + last + 1) >> 1
        if holds(middle):
            first = middle
        else:
            last = middle - 1
    return first
