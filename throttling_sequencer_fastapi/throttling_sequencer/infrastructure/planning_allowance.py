"""What each principal has had planned in the last minute, counted in this process's memory."""

import math
import threading
import time
from collections.abc import Callable
from itertools import islice

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from throttling_sequencer.application.planning import AllowanceSpentError, ShareTakenError

_WINDOW_S = 60

# Others ask, as far as one knows who has asked within so many seconds.
_OTHERS_S = 10.0

# Many plans take a fraction of a millisecond.
_US = 1000


class MemoryAllowance:
    """A `PlanningAllowance` of `most_ms`: what was used in the last minute and what is reserved are no more together.

    What was used in the minute of the clock before this one counts by the part of it that is in the last minute, as if
    it had been spread evenly. A principal who has nothing planned for two minutes leaves nothing behind. While others
    ask, whoever holds `share_ms` gets no more.
    """

    def __init__(self, most_ms: int, share_ms: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most_ms = most_ms
        self._share = share_ms * _US
        self._clock = clock
        self._asked_last: str | None = None
        self._another_asked = -math.inf
        self._minute = RateLimitItemPerMinute(most_ms * _US)
        self._storage = _Counters()
        self._used = SlidingWindowCounterRateLimiter(self._storage)
        self._reserved: dict[str, int] = {}

    def __len__(self) -> int:
        """How many counters there are: for each principal, one for each minute and one for what is reserved."""
        return len(self._storage.storage) + len(self._reserved)

    def reserve(self, principal: str, process_ms: int) -> None:
        reserved, cost = self._reserved.get(principal, 0), process_ms * _US
        if self._do_others_ask(principal) and reserved and reserved >= self._share:
            raise ShareTakenError
        if not self._used.test(self._minute, principal, cost=reserved + cost):
            raise AllowanceSpentError(process_ms, self.most_ms, self._seconds_until(principal, reserved, cost))
        self._reserved[principal] = reserved + cost

    def settle(self, principal: str, process_ms: int, used_ms: float) -> None:
        left = self._reserved.pop(principal) - process_ms * _US
        if left:
            self._reserved[principal] = left
        used = round(used_ms * _US)
        if used and not self._used.hit(self._minute, principal, cost=used):
            # A search has taken longer than it was given: no more can be taken away than there is.
            used = self._used.get_window_stats(self._minute, principal).remaining
            self._used.hit(self._minute, principal, cost=used)
        self._storage.forget_expired()

    def _do_others_ask(self, principal: str) -> bool:
        """Whether somebody else has asked lately: of all who ask, the last and when another one did are enough."""
        now = self._clock()
        if self._asked_last not in (None, principal):
            self._another_asked = now
        self._asked_last = principal
        return now - self._another_asked < _OTHERS_S

    def _seconds_until(self, principal: str, reserved: int, cost: int) -> int:
        """Return after how many seconds there is enough left, if all that is reserved is used now."""
        before, _, now, kept_s = self._storage.get_sliding_window(self._minute.key_for(principal), _WINDOW_S)
        # A counter is kept to the end of the minute after its own.
        until_next = kept_s - _WINDOW_S
        now += reserved
        room = self._minute.amount - cost
        if now <= room:
            if not before:
                # The minute has turned since it was asked.
                return 1
            # The part of the minute before gets smaller as time goes by.
            seconds = until_next - (room - now) / before * _WINDOW_S
        else:
            seconds = until_next + _WINDOW_S * (1 - room / now)
        return max(1, math.ceil(seconds))


class _Counters(MemoryStorage):
    """The library's counters, without its thread.

    The thread comes and goes with every hit, looks at all counters, and does so while others change them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.timer.cancel()
        self.timer.join()
        self.timer = _Sleeping()

    def forget_expired(self) -> None:
        """Drop counters that have expired, two at most; they do in the order in which they came.

        Called for each that may have come, it leaves none behind.
        """
        for key in list(islice(self.expirations, 2)):
            self.get(key)


class _Sleeping(threading.Timer):
    """A timer that is never begun, and that nobody has to begin."""

    def __init__(self) -> None:
        super().__init__(0, lambda: None)

    def is_alive(self) -> bool:
        return True
