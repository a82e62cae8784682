"""Brings events to whoever handles them, within one process and one event loop."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType, TracebackType
from typing import Self, TypeVar

from api_server.event_bus.errors import EventBusClosedError, HandlerRefusedError
from api_server.event_bus.event import BaseEvent
from api_server.event_bus.handler import Handler, RegisteredHandler, Services, name_of
from api_server.event_bus.run import HandlerRun, all_ended
from api_server.event_bus.stream import EventStream, Streams

E = TypeVar("E", bound=BaseEvent)

# How many plain functions run at a time, each in a thread of its own.
_THREADS = 16
# What a handler that is cancelled may take to leave in good order.
_CLEAN_UP_S = 0.25

log = logging.getLogger("api_server.event_bus")


class EventBus:
    """Runs the handlers of each event that is emitted, isolated from each other and from whoever emits it.

    What handlers take besides the event they get from `services`. A bus belongs to the event loop that it is first
    used in; making it and registering handlers needs none.
    """

    def __init__(self, services: Services | None = None) -> None:
        self._services = services
        self._handlers: list[RegisteredHandler] = []
        self._runs: set[HandlerRun] = set()
        self._streams = Streams()
        self._failures: Counter[str] = Counter()
        self._emitted: Counter[str] = Counter()
        self._threads = asyncio.Semaphore(_THREADS)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    @property
    def failures(self) -> Mapping[str, int]:
        """How often handlers failed, by their names."""
        return MappingProxyType(self._failures)

    @property
    def emitted(self) -> Mapping[str, int]:
        """How often events were emitted, by the names of their classes."""
        return MappingProxyType(self._emitted)

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many events streams dropped because nobody took them in time, by the names of the streams' types."""
        return MappingProxyType(self._streams.dropped)

    def register(self, event_type: type[E], handler: Handler) -> None:
        """Let a handler run for each event of a type, and of the types derived from it.

        A handler is a coroutine function; a plain function, which runs in a thread; or a class, of which each event
        gets an instance, or an object, with such a method `handle`. It takes the event first. Its further parameters,
        and those of a class' constructor, are services, found by their annotations.

        Raises HandlerRefusedError where it is no such thing, and EventBusClosedError where the bus is closed.
        """
        self._check_open()
        name = name_of(handler)
        _check_type(event_type, name)
        if any(one.event_type is event_type and one.is_same(handler) for one in self._handlers):
            raise HandlerRefusedError(name, event_type.__name__, "it is registered for it already")
        self._handlers.append(RegisteredHandler(event_type, handler, self._services))

    async def emit(self, event: BaseEvent, *, raises: bool = False) -> None:
        """Run every handler registered for the event's class or a base of it, once, and return when all have finished.

        They run at the same time. A failing handler is logged and counted, and does not disturb the others; where
        `raises`, an ExceptionGroup of what failed is raised at the end. Whoever gives up waiting ends no handler.

        Raises EventBusClosedError where the bus is closed, and RuntimeError in another event loop than the bus' own.
        """
        self._check_open()
        self._check_loop()
        if not isinstance(event, BaseEvent):
            raise TypeError(f"{name_of(event)} is no event: emit an instance of a class that is derived from BaseEvent")
        self._emitted[type(event).__name__] += 1
        self._streams.offer(event)
        runs = [self._start(event, handler) for handler in self._handlers_of(event)]
        # A turn of the event loop in any case: whoever emits and emits holds up nobody.
        await (all_ended(runs) if runs else asyncio.sleep(0))
        errors = [run.error for run in runs if run.error is not None]
        if raises and errors:
            raise ExceptionGroup(f"{len(errors)} of {len(runs)} handlers of {type(event).__name__} failed", errors)

    def stream(self, event_type: type[E], *, capacity: int = 64) -> EventStream[E]:
        """Return the events of a type, and of the types derived from it, that are emitted from this call on.

        At most `capacity` of them are kept for whoever iterates; then the oldest is dropped and counted. Each is given
        after a turn of the event loop. A stream that nobody refers to any more is closed; when the bus is closed, it
        ends after what it kept.
        """
        self._check_open()
        self._check_loop()
        _check_type(event_type, "a stream")
        return self._streams.open(event_type, capacity)

    def failed(self, event: BaseEvent, handler_name: str, error: BaseException) -> None:
        """Hear of each failure of a handler; logs it, without the event's values."""
        log.error("%s failed on %s", handler_name, type(event).__name__, exc_info=error)

    def handling(self, event: BaseEvent, handler_name: str) -> AbstractContextManager[None]:  # noqa: ARG002 - for others
        """Return what a handler runs within; to be overridden by whoever watches."""
        return nullcontext()

    async def aclose(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109 - handlers have it, and are cancelled then
        """Take no event and no handler any more, end the streams, and return when every handler has ended.

        After `timeout` seconds handlers are cancelled, which is logged. One that does not let itself be cancelled, or
        that hangs in a thread, is left behind, which is logged too. A handler may close the bus, and is not waited for.
        """
        self._check_loop()
        self._is_closed = True
        self._streams.end()
        runs = [run for run in self._runs if run.task is not asyncio.current_task()]
        try:
            await all_ended(runs, timeout)
        finally:
            # Whoever gives up closing ends them now.
            for run in runs:
                run.task.cancel()
        await all_ended(runs, _CLEAN_UP_S)
        for run in runs:
            if not run.ended.done():
                run.leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _start(self, event: BaseEvent, handler: RegisteredHandler) -> HandlerRun:
        run = HandlerRun(event, handler, self._threads, self._count_failure, self.handling)
        self._runs.add(run)
        run.ended.add_done_callback(lambda _: self._runs.discard(run))
        return run

    def _count_failure(self, event: BaseEvent, handler_name: str, error: BaseException) -> None:
        self._failures[handler_name] += 1
        self.failed(event, handler_name, error)

    def _handlers_of(self, event: BaseEvent) -> list[RegisteredHandler]:
        found: list[RegisteredHandler] = []
        for handler in self._handlers:
            # It may be registered for several of the event's classes.
            if isinstance(event, handler.event_type) and not any(one.is_same(handler.handler) for one in found):
                found.append(handler)
        return found

    def _check_open(self) -> None:
        if self._is_closed:
            raise EventBusClosedError("the event bus is closed")

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if loop is not self._loop:
            raise RuntimeError(
                "this event bus is used in another event loop: give it the event by "
                "asyncio.run_coroutine_threadsafe(), or have a bus of your own"
            )


def _check_type(event_type: object, handler: str) -> None:
    if not (isinstance(event_type, type) and issubclass(event_type, BaseEvent)):
        raise HandlerRefusedError(handler, name_of(event_type), "that is no class derived from BaseEvent")
