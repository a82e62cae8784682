"""One handler at work on one event."""

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TypeAlias

from api_server.daemon_thread import DaemonThread, abandon
from api_server.event_bus.errors import EventBusClosedError
from api_server.event_bus.event import BaseEvent
from api_server.event_bus.handler import RegisteredHandler

log = logging.getLogger("api_server.event_bus")

Failed: TypeAlias = Callable[[BaseEvent, str, BaseException], None]
Handling: TypeAlias = Callable[[BaseEvent, str], AbstractContextManager[None]]


class HandlerRun:
    """Runs a handler in a task of its own, in the context of whoever emits; `error` is how that failed.

    A plain function runs in a thread, as soon as `threads` has room for it.
    """

    def __init__(
        self,
        event: BaseEvent,
        handler: RegisteredHandler,
        threads: asyncio.Semaphore,
        failed: Failed,
        handling: Handling,
    ) -> None:
        self.error: Exception | None = None
        self._event = event
        self._handler = handler
        self._threads = threads
        self._failed = failed
        self._handling = handling
        self._thread: DaemonThread[object] | None = None
        # Not the task itself: it may never be done.
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._run(), name=f"{handler.name} of {type(event).__name__}")
        self.task.add_done_callback(self._end)

    def leave(self) -> None:
        """Let nobody wait for a handler that does not let itself be cancelled."""
        self._interrupted("%s does not end, and is left behind with %s")
        abandon(self.task)
        self._end(self.task)

    async def _run(self) -> None:
        try:
            await self._handle()
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                goes_on = self._thread is not None and self._thread.is_running
                self._interrupted(f"%s {'goes on in its thread' if goes_on else 'was cancelled'} with %s unhandled")
                raise
            # By something that it waited for, and not by the bus.
            self._fail(error)
        # The edge: a handler that breaks disturbs no other; nor does one that exits end the service.
        except BaseException as error:  # noqa: BLE001
            self._fail(error)

    async def _handle(self) -> None:
        with self._handling(self._event, self._handler.name):
            call = self._handler.call_for(self._event)
            result = call() if self._handler.is_async else await self._in_thread(call)
            if inspect.isawaitable(result):
                await result

    async def _in_thread(self, call: Callable[[], object]) -> object:
        async with self._threads:
            self._thread = DaemonThread(call, name=self._handler.name)
            return await self._thread.outcome()

    def _fail(self, error: BaseException) -> None:
        self.error = error if isinstance(error, Exception) else _as_exception(self._handler.name, error)
        try:
            self._failed(self._event, self._handler.name, error)
        # What an application does about a failure is its own, too.
        except Exception:
            log.exception("the failure of %s could not be reported", self._handler.name)

    def _interrupted(self, what: str) -> None:
        self.error = EventBusClosedError(f"{self._handler.name} did not end before the event bus was closed")
        log.warning(what, self._handler.name, type(self._event).__name__)

    def _end(self, _task: "asyncio.Task[None]") -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def all_ended(runs: Iterable[HandlerRun], timeout: float | None = None) -> None:  # noqa: ASYNC109 - none is raised
    """Wait until every run has ended or is left, for at most `timeout` seconds. Giving up the wait ends none."""
    if waiting := [run.ended for run in runs if not run.ended.done()]:
        await asyncio.wait(waiting, timeout=timeout)


def _as_exception(handler: str, error: BaseException) -> Exception:
    exception = RuntimeError(f"{handler} raised {error!r}")
    exception.__cause__ = error
    return exception
