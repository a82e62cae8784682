"""What operators hear of stored plans: a log line a second at most."""

import time
from collections.abc import Callable

import structlog

log = structlog.get_logger("throttling_sequencer.stored_plans")

_PERIOD_S = 1.0


class LoggedStoredPlanEvents:
    """Writes why calls failed, and how many since the line before."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told_at = float("-inf")
        self._untold = 0

    def failed(self, code: str, reason: str) -> None:
        self._untold += 1
        now = self._clock()
        if now - self._told_at < _PERIOD_S:
            return
        log.warning("a stored plan was not answered", code=code, reason=reason, calls=self._untold)
        self._told_at, self._untold = now, 0
