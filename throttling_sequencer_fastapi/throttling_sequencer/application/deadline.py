"""The one time limit of a request that has several parts."""

import time
from collections.abc import Callable

Clock = Callable[[], float]


class Deadline:
    """Ends some seconds after it is made, by a clock that only goes forward."""

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    @property
    def seconds_left(self) -> float:
        """How long it is until it ends; 0 when it has."""
        return max(0.0, self._end - self._clock())
