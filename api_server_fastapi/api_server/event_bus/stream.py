"""The events of a type, one after the other, for one who iterates."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from api_server.event_bus.event import BaseEvent

E = TypeVar("E", bound=BaseEvent)


class EventStream(AsyncGenerator[E, None], Generic[E]):
    """What is offered and not taken yet: at most `capacity` events, of which the oldest is dropped for a newer one.

    It is no generator, so that a wait that is given up loses nothing, and one that is closed before it began is closed.
    `dropped`: how many events were.
    """

    def __init__(self, event_type: type[E], capacity: int, awaited: "set[EventStream[Any]]") -> None:
        if capacity < 1:
            raise ValueError(f"a stream keeps at least one event, and not {capacity}")
        self.event_type = event_type
        self.dropped = 0
        self._capacity = capacity
        self._awaited = awaited
        self._events: deque[E] = deque()
        self._has_ended = False
        self._waiter: asyncio.Future[None] | None = None

    def offer(self, event: E) -> bool:
        """Keep an event for whoever iterates; False where another one had to go."""
        has_room = len(self._events) < self._capacity
        if not has_room:
            self._events.popleft()
            self.dropped += 1
        self._events.append(event)
        self._wake()
        return has_room

    def end(self) -> None:
        """Let the iteration end after what is kept."""
        self._has_ended = True
        self._wake()

    @property
    def has_ended(self) -> bool:
        """Whether nothing is to be offered any more."""
        return self._has_ended

    async def asend(self, _value: None, /) -> E:
        """Return the oldest event. The event loop turns at least once."""
        if self in self._awaited:
            raise RuntimeError("somebody else waits for the next event of this stream")
        self._awaited.add(self)
        try:
            await asyncio.sleep(0)
            while not self._events:
                if self._has_ended:
                    raise StopAsyncIteration
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
            return self._events.popleft()
        finally:
            self._awaited.discard(self)

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> E:
        """Close the stream and raise: nothing in it could catch what is thrown."""
        await self.aclose()
        error = val if isinstance(val, BaseException) else typ() if isinstance(typ, type) else typ
        raise error.with_traceback(tb)

    async def aclose(self) -> None:
        """Forget what is kept, and end, even where somebody waits for the next event."""
        self._events.clear()
        self.end()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Streams:
    """The streams of a bus. One that nobody refers to any more is gone, with what it kept."""

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self._all: WeakSet[EventStream[Any]] = WeakSet()
        # A loop refers weakly to a task that waits, and that may be all that refers to a stream.
        self._awaited: set[EventStream[Any]] = set()

    def open(self, event_type: type[E], capacity: int) -> EventStream[E]:
        stream = EventStream(event_type, capacity, self._awaited)
        self._all.add(stream)
        return stream

    def offer(self, event: BaseEvent) -> None:
        """Give an event to every stream of its class or of one of its bases."""
        for stream in tuple(self._all):
            if stream.has_ended:
                self._all.discard(stream)
            elif isinstance(event, stream.event_type) and not stream.offer(event):
                self.dropped[stream.event_type.__name__] += 1

    def end(self) -> None:
        """Let every iteration end after what is kept."""
        for stream in tuple(self._all):
            stream.end()
