"""The request log as an observation: what is recorded never delays, and never fails, what it is about."""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Protocol

from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.domain.request_log import AsyncGqlRequestRepository, GqlRequest

# How long a request may wait for others to be written with, in seconds, and how many are written at once.
_LINGER_S = 0.1
_BATCH = 200

_RETRY_S = (0.2, 2.0)
_FLUSH_S = 3.0
_PRUNE_PERIOD_S = 3600.0
_PRUNE_RETRY_S = 60.0
_DAY_S = 86_400.0


class RequestLogEvents(Protocol):
    """Hears what an operator should know about the request log; each of these once per incident."""

    def interrupted(self, reason: str) -> None:
        """Hear that the storage cannot be used; requests wait."""

    def resumed(self, dropped: int) -> None:
        """Hear that it can be used again; so many requests were dropped since the process began."""

    def dropping(self, capacity: int) -> None:
        """Hear that as many requests wait as may; further ones are dropped and counted."""

    def failed(self, error: Exception) -> None:
        """Hear that the storage refuses something for good: a request is lost, or old ones stay."""

    def left_behind(self, number: int) -> None:
        """Hear that the process ends, and that the storage did not take so many requests."""


class RecordGqlRequest:
    """Records requests through a bounded queue, which one task writes to the repository in batches.

    What waits is written when the storage can be used again, each request once; what does not fit into the queue
    meanwhile is dropped and counted in `dropped`; `is_interrupted` says that the storage cannot be used just now.
    """

    def __init__(self, repository: AsyncGqlRequestRepository, events: RequestLogEvents, capacity: int = 10_000) -> None:
        self._repository = repository
        self._events = events
        self._capacity = capacity
        self._waiting: deque[GqlRequest] = deque()
        self._has_work = asyncio.Event()
        self._is_ending = asyncio.Event()
        self._is_dropping = False
        self.is_writing = False
        self.is_interrupted = False
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """How many requests wait to be written."""
        return len(self._waiting)

    def record(self, request: GqlRequest) -> None:
        """Take a request down; returns at once and never raises."""
        if len(self._waiting) < self._capacity:
            self._waiting.append(request)
            self._has_work.set()
            return
        self.dropped += 1
        if not self._is_dropping:
            self._is_dropping = True
            self._events.dropping(self._capacity)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write what is recorded for as long as the context lasts, and what still waits at its end."""
        task = asyncio.create_task(self._write_for_ever(), name="request log writer")
        self.is_writing = True
        try:
            yield
        finally:
            self.is_writing = False
            self._is_ending.set()
            self._has_work.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_S):
                    await task
            if self._waiting:
                self._events.left_behind(len(self._waiting))

    async def _write_for_ever(self) -> None:
        while self._waiting or not self._is_ending.is_set():
            if not self._waiting:
                self._has_work.clear()
                await self._has_work.wait()
                continue
            if len(self._waiting) < _BATCH:
                await _first_of(self._is_ending, _LINGER_S)
            batch = list(islice(self._waiting, _BATCH))
            number = len(batch)
            await self._write_until_kept(batch)
            for _ in range(number):
                self._waiting.popleft()
            # Not before: a queue that is full most of the time is one incident.
            self._is_dropping = self._is_dropping and bool(self._waiting)

    async def _write_until_kept(self, batch: list[GqlRequest]) -> None:
        pause, longest = _RETRY_S
        while True:
            try:
                await self._write(batch)
            except StorageUnavailableError as error:
                if not self.is_interrupted:
                    self.is_interrupted = True
                    self._events.interrupted(error.reason)
                # Spread, so that the processes of a service do not come back all at once.
                await asyncio.sleep(random.uniform(pause / 2, pause))
                pause = min(2 * pause, longest)
            else:
                if self.is_interrupted:
                    self.is_interrupted = False
                    self._events.resumed(self.dropped)
                return

    async def _write(self, batch: list[GqlRequest]) -> None:
        """Write a batch; where the storage refuses it, write one by one, and leave in it what is not tried yet."""
        if await self._is_added(batch):
            return
        while batch:
            if not await self._is_added(batch[:1], is_last_try=True):
                self.dropped += 1
            batch.pop(0)

    async def _is_added(self, requests: Sequence[GqlRequest], *, is_last_try: bool = False) -> bool:
        try:
            await self._repository.add(requests)
        except StorageUnavailableError:
            raise
        # The edge: one request that the storage refuses must not take others with it, nor end the log in silence.
        except Exception as error:  # noqa: BLE001
            if is_last_try:
                self._events.failed(error)
            return False
        return True


class ForgetOldGqlRequests:
    """Deletes requests that are older than they are kept."""

    def __init__(self, repository: AsyncGqlRequestRepository, events: RequestLogEvents, retention_days: int) -> None:
        self._repository = repository
        self._events = events
        self._retention_s = retention_days * _DAY_S

    @asynccontextmanager
    async def pruning(self) -> AsyncIterator[None]:
        """Delete now and every hour, for as long as the context lasts."""
        task = asyncio.create_task(self._prune_for_ever(), name="request log pruning")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _prune_for_ever(self) -> None:
        while True:
            pause = _PRUNE_PERIOD_S
            try:
                await self._repository.delete_older_than(time.time() - self._retention_s)
            except StorageUnavailableError:
                pause = _PRUNE_RETRY_S
            # The edge: see RecordGqlRequest._write.
            except Exception as error:  # noqa: BLE001
                self._events.failed(error)
            await asyncio.sleep(pause)


async def _first_of(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but not for longer than this."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
