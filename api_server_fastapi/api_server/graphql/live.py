"""What every subscription passes through, so that no stream can hold the event loop, or memory, for good."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import suppress
from enum import StrEnum
from typing import ClassVar, Generic, TypeVar

T = TypeVar("T")


class Overflow(StrEnum):
    """What happens when a client takes items more slowly than the source makes them."""

    LATEST = "latest"
    """The oldest item that waits is dropped: for states, of which only the newest counts."""
    CLOSE = "close"
    """The source waits for room, for as long as the client is given; then the stream ends with ClientTooSlowError."""


class ClientTooSlowError(Exception):
    """A client did not take what it subscribed to."""

    code: ClassVar[str] = "CLIENT_TOO_SLOW"

    def __init__(self, capacity: int, patience: float) -> None:
        super().__init__(f"{capacity} items waited for {patience:g} s and none was taken")


async def live(
    source: AsyncIterable[T], *, overflow: Overflow = Overflow.LATEST, capacity: int = 64, patience: float = 5.0
) -> AsyncGenerator[T, None]:
    """Pass the items of a source on, in order, to whoever iterates.

    At most `capacity` items wait; `patience` is in seconds. Each item is given to the event loop first, so that a
    source which never waits starves nobody. When the iteration ends, by whatever way, the source has been closed.
    """
    buffer: _Buffer[T] = _Buffer(capacity, overflow, patience)
    filling = asyncio.create_task(buffer.fill(source), name="live source")
    try:
        async for item in buffer:
            yield item
        await filling  # raises what the source raised
    finally:
        filling.cancel()
        with suppress(Exception, asyncio.CancelledError):
            await filling


class _Buffer(Generic[T]):
    """What waits between a source and its client: a bounded queue of which either end may be the faster one."""

    def __init__(self, capacity: int, overflow: Overflow, patience: float) -> None:
        self._capacity = capacity
        self._overflow = overflow
        self._patience = patience
        self._items: deque[T] = deque(maxlen=capacity)
        self._taken = 0
        self._has_ended = False
        self._filled: asyncio.Future[None] | None = None
        self._emptied: asyncio.Future[None] | None = None

    def __aiter__(self) -> "_Buffer[T]":
        return self

    async def __anext__(self) -> T:
        """Take the oldest item. The event loop turns at least once."""
        if self._items or self._has_ended:
            await asyncio.sleep(0)
        while not self._items:
            if self._has_ended:
                raise StopAsyncIteration
            self._filled = asyncio.get_running_loop().create_future()
            await self._filled
        self._taken += 1
        item = self._items.popleft()
        if len(self._items) <= self._capacity // 2:
            _wake(self._emptied)
        return item

    async def fill(self, source: AsyncIterable[T]) -> None:
        try:
            async for item in source:
                if len(self._items) == self._capacity:
                    await self._make_room()
                self._items.append(item)
                _wake(self._filled)
        finally:
            self._has_ended = True
            _wake(self._filled)
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()

    async def _make_room(self) -> None:
        if self._overflow is Overflow.LATEST:
            # The deque drops its oldest by itself; the client gets a turn.
            await asyncio.sleep(0)
            return
        # Room for many at once, so that a source which is always faster does not wait for each single item.
        self._emptied = asyncio.get_running_loop().create_future()
        while not self._emptied.done():
            taken = self._taken
            await asyncio.wait({self._emptied}, timeout=self._patience)
            if self._taken == taken:
                raise ClientTooSlowError(self._capacity, self._patience)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
