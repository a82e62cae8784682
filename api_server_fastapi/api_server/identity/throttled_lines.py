"""Log lines about what may happen thousands of times a second."""

import time
from collections.abc import Callable

import structlog

# Between two lines.
_QUIET_S = 10.0


class ThrottledLines:
    """Warns of something at most once in 10 seconds, and says how many times it happened since the line before."""

    def __init__(self, event: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._event = event
        self._clock = clock
        self._written_at = float("-inf")
        self._times = 0

    def happened(self, **facts: object) -> None:
        """Count it; where a line is due, write it, with these facts."""
        self._times += 1
        if self._clock() - self._written_at >= _QUIET_S:
            structlog.get_logger("api_server.identity").warning(self._event, times=self._times, **facts)
            self._written_at, self._times = self._clock(), 0
