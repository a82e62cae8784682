"""How much of something a client may do: so much in each second, saved up for two seconds at most."""

import time

_SECONDS_SAVED = 2


class Allowance:
    """Grows by `per_second` in each second, and shrinks by one with each thing that is done."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._most = self._left = per_second * _SECONDS_SAVED
        self._seen = time.monotonic()

    def spend(self) -> bool:
        """Whether one more thing may be done; if so, it counts."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._seen) * self._per_second)
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
