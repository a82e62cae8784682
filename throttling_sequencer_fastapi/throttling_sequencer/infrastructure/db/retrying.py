"""Calls of the database that are tried again and again until their time is over."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import stamina

from throttling_sequencer.domain.errors import OutcomeUnknownError, StorageUnavailableError
from throttling_sequencer.infrastructure.db.trouble import (
    DATABASE_ERRORS,
    CommitInDoubtError,
    in_words,
    is_worth_another_try,
    says_unavailable,
)

T = TypeVar("T")

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.25

# By how much an attempt may be late before it is cut off: it is asked to end by itself. A server that says nothing is
# given that time when the connection is given back, so that it is taken off a call's own; of a short one, a part.
_LATE_S = 0.3
_MOST_LATE = 0.25

# How long a COMMIT may wait for its answer. A standby that is slow is no reason to cancel each such wait after the same
# time, so that none succeeds: each commit in doubt doubles it for the next try.
COMMIT_S = 1.0
commit_limit_s: ContextVar[float] = ContextVar("commit_limit_s", default=COMMIT_S)


class Room:
    """How many calls of a process may be under way at a time, those that wait for another try included."""

    def __init__(self, most: int = 2000) -> None:
        self.most = most
        self.taken = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place, and give it back in the end; raises StorageUnavailableError where there is none."""
        if self.taken >= self.most:
            raise StorageUnavailableError(f"{self.taken} calls wait for the database already")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


ROOM = Room()


def start_retrying(most: int) -> None:
    """Set how many calls may be under way, and keep stamina from writing a log line for each try."""
    ROOM.most = most
    stamina.instrumentation.set_on_retry_hooks(())


async def retried(
    attempt: Callable[[float], Awaitable[T]],
    *,
    within_s: float,
    room: Room = ROOM,
    clock: Callable[[], float] = time.monotonic,
    jitter: Callable[[float, float], float] = random.uniform,
) -> T:
    """Call `attempt` with the seconds that are left until it succeeds, and return what it returned.

    Raises StorageUnavailableError where it did not succeed in time, or cannot, and nothing was kept, or
    OutcomeUnknownError where an attempt was in doubt; and what is about the values that were given at once, as it is.
    """
    call = _Call(clock, clock() + within_s - min(_LATE_S, _MOST_LATE * within_s), jitter)
    with room.place():
        try:
            async for trial in stamina.retry_context(on=call.pause_after, attempts=None, timeout=None):
                with trial:
                    return await call.tried(attempt)
        except (CommitInDoubtError, StorageUnavailableError, *DATABASE_ERRORS) as error:
            if not isinstance(error, (CommitInDoubtError, StorageUnavailableError)) and not says_unavailable(error):
                raise
            raise call.last_word(error) from error
    raise AssertionError("stamina ends with an answer or an error")


class _Call:
    """A call that is tried several times: its end, and whether an attempt was in doubt."""

    def __init__(self, clock: Callable[[], float], ends_at: float, jitter: Callable[[float, float], float]) -> None:
        self._clock = clock
        self._ends_at = ends_at
        self._jitter = jitter
        self._tries = 0
        self._commit_s = COMMIT_S
        self._doubt: CommitInDoubtError | None = None
        self._last_error: Exception = StorageUnavailableError("no time is left")

    async def tried(self, attempt: Callable[[float], Awaitable[T]]) -> T:
        left = self._ends_at - self._clock()
        if left <= 0:
            raise self._last_error
        self._tries += 1
        guard = asyncio.timeout(left + _LATE_S)
        token = commit_limit_s.set(self._commit_s)
        try:
            async with guard:
                return await attempt(left)
        except TimeoutError as error:
            if not guard.expired():
                raise
            self._doubt = CommitInDoubtError("it was cut off, since it did not end by itself")
            raise self._doubt from error
        except CommitInDoubtError as error:
            self._doubt = error
            self._commit_s *= 2
            raise
        finally:
            commit_limit_s.reset(token)

    def pause_after(self, error: Exception) -> float | bool:
        """Return for how long to wait before the next try, False where there is none."""
        self._last_error = error
        if not is_worth_another_try(error):
            return False
        # Full jitter: who failed together does not come again together.
        longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._tries - 1, 10))
        pause = self._jitter(0.0, longest)
        return pause if pause < self._ends_at - self._clock() else False

    def last_word(self, error: Exception) -> StorageUnavailableError | OutcomeUnknownError:
        """Return what a call ends with whose last attempt ended with this."""
        if self._doubt is not None:
            return OutcomeUnknownError(self._doubt.reason)
        if isinstance(error, StorageUnavailableError):
            return error
        return StorageUnavailableError(in_words(error))
