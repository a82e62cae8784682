"""How a process leaves: it says so, answers on for a while, ends what it began, and is gone in time in any case.

It needs the standard library only, and an app that is served by uvicorn: other servers set signals in other ways.
"""

import asyncio
import gc
import inspect
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from queue import SimpleQueue
from types import FrameType

# The exit status of a process that was ended because it did not end.
STUCK = 70

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What `on_closing` may take.
_TELLING_S = 1.0
# Whoever stops a service may tell each of its processes, and a supervisor tells its workers again.
_SAME_ASKING_S = 1.0
# What a process that is ended may take to write where it stands.
_LAST_WORDS_S = 0.5
_TASKS_SHOWN = 50

log = logging.getLogger("api_server.draining")


class Draining:
    """What happens between a SIGTERM, or SIGINT, and the end of a process.

    `is_draining` from the signal on. After `delay` seconds `is_closing` is set, whoever registered by `on_closing` is
    awaited, a second at most, and then whatever handled the signal before takes over: uvicorn closes its listener.
    The delay is left out for a SIGINT of a terminal, and what is left of it when a second signal comes.

    A process that is still there `within` seconds after the signal is ended, by status 70, after it has written
    what all its threads do; `math.inf` gives it all the time it wants.
    """

    def __init__(self, delay: float = 0.0, within: float = 15.0) -> None:
        self.delay = delay
        self.is_draining = False
        self.is_closing = asyncio.Event()
        self._deadline = _Deadline(within)
        self._on_draining: list[Callable[[], None]] = []
        self._on_closing: list[Callable[[], Awaitable[None]]] = []
        self._is_hurried = asyncio.Event()
        self._since = 0.0
        self._number: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Task[None] | None = None
        self._is_handed_on = False
        self._before: dict[int, _Handler] = {}

    @property
    def left(self) -> float:
        """Seconds until the deadline, which begins with a signal."""
        return self._deadline.left

    def on_draining(self, callback: Callable[[], None]) -> None:
        """Have `callback` called at the signal, within its handler: it may not wait for anything."""
        self._on_draining.append(callback)
        if self.is_draining:
            self._call(callback)

    def on_closing(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Have `callback` awaited after the delay, while the listener is still open; cancelled after a second."""
        self._on_closing.append(callback)

    async def wait_until_closing(self) -> None:
        """Return when the delay is over."""
        await self.is_closing.wait()

    def begin(self, *, at_once: bool = False) -> None:
        """Drain and close without a signal, in an app that is stopped by other means; no deadline is set by that."""
        if self.is_draining:
            return
        self.is_draining, self._since = True, time.monotonic()
        for callback in self._on_draining:
            self._call(callback)
        self._in_loop(lambda: self._start_closing(0.0 if at_once else self.delay))

    @asynccontextmanager
    async def leaving(self) -> AsyncIterator[None]:
        """Handle SIGINT and SIGTERM in this way for as long as the context lasts: it belongs into a lifespan.

        Outside of the main thread, which alone may handle signals, nothing begins but by `begin`.
        """
        self._loop = asyncio.get_running_loop()
        try:
            with self._signals_handled():
                yield
        finally:
            if self._closing is not None:
                self._closing.cancel()
                await asyncio.wait({self._closing})

    @contextmanager
    def _signals_handled(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._deadline.start()
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in self._before.items():
                # Whoever set another one meanwhile keeps it.
                if signal.getsignal(number) == self._handle:
                    signal.signal(number, handler)
            self._deadline.call_off_unless_set()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._deadline.set()
        self._number = self._number or number
        if not self.is_draining:
            self.begin(at_once=number == signal.SIGINT and _is_at_a_terminal())
        elif self._is_handed_on:
            self._hand_on(number, frame)
        elif number == signal.SIGINT or time.monotonic() - self._since >= _SAME_ASKING_S:
            self._in_loop(self._is_hurried.set)

    def _in_loop(self, act: Callable[[], object]) -> None:
        # A handler may interrupt the loop anywhere.
        if self._loop is not None:
            self._loop.call_soon_threadsafe(act)

    def _start_closing(self, delay: float) -> None:
        self._closing = asyncio.create_task(self._close(delay), name="draining")

    async def _close(self, delay: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._is_hurried.wait()
        self.is_closing.set()
        await self._tell()
        self._is_handed_on = True
        if self._number is not None:
            self._hand_on(self._number, None)

    async def _tell(self) -> None:
        tellers = {asyncio.ensure_future(_told(callback)) for callback in self._on_closing}
        if not tellers:
            return
        _, late = await asyncio.wait(tellers, timeout=_TELLING_S)
        for teller in late:
            teller.cancel()
            log.warning("what was to be done before the listener closes took longer than %g s", _TELLING_S)

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        """Let whatever handled the signal before do so."""
        handler = self._before.get(number)
        if callable(handler):
            handler(number, frame)
        elif handler is signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    @staticmethod
    def _call(callback: Callable[[], None]) -> None:
        try:
            callback()
        # Raised in a signal handler, it would hit whatever the main thread does at the moment.
        except Exception:
            log.exception("what was to be done first failed; the process leaves all the same")


_Handler = Callable[[int, FrameType | None], object] | int | None


async def _told(callback: Callable[[], Awaitable[None]]) -> None:
    try:
        await callback()
    # One that fails keeps neither the others from being told nor the process from leaving.
    except Exception:
        log.exception("what was to be done before the listener closes failed")


def _is_at_a_terminal() -> bool:
    try:
        return sys.stdin is not None and sys.stdin.isatty()
    except ValueError:  # closed
        return False


class _Deadline:
    """A thread that ends the process so long after `set`; nothing that the other threads do keeps it from that."""

    def __init__(self, within: float) -> None:
        self._within = within
        self._patience = within - min(_LAST_WORDS_S, within / 2)
        # Whose `put` may be interrupted by a signal whose handler puts too.
        self._moment: SimpleQueue[float | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_set = False
        self._end = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Have the thread stand by: none could be started where a signal may come in."""
        if self._within == float("inf") or self._thread is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._stand_by, name="deadline of leaving", daemon=True)
        self._thread.start()

    @property
    def left(self) -> float:
        return max(self._end - time.monotonic(), 0.0) if self._is_set else self._patience

    def set(self) -> None:
        if not self._is_set:
            self._is_set, self._end = True, time.monotonic() + self._patience
            self._moment.put(self._end)

    def call_off_unless_set(self) -> None:
        if self._thread is not None and not self._is_set:
            self._moment.put(None)
            self._thread.join(_LAST_WORDS_S)
            self._thread = None

    def _stand_by(self) -> None:
        moment = self._moment.get()
        if moment is None:
            return
        time.sleep(max(moment - time.monotonic(), 0.0))
        # In a thread of its own: what is stuck may be the log.
        with suppress(RuntimeError):
            last_words = threading.Thread(target=self._write_last_words, daemon=True)
            last_words.start()
            last_words.join(_LAST_WORDS_S)
        os._exit(STUCK)

    def _write_last_words(self) -> None:
        log.error(
            "this process did not leave within %g s and is ended with status %d; what its threads and tasks do:\n%s",
            self._within,
            STUCK,
            "\n".join([*_threads(), *_tasks(self._loop)]),
        )


def _threads() -> Iterator[str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - the only way to see them
        if ident != threading.get_ident():
            yield f"Thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"


def _tasks(loop: asyncio.AbstractEventLoop | None) -> Iterator[str]:
    # Looked at while they may run on; what changes meanwhile is no reason not to show the rest.
    with suppress(RuntimeError):
        if loop is not None:
            for task in list(asyncio.all_tasks(loop))[:_TASKS_SHOWN]:
                yield f"Task {task.get_name()}:\n{''.join(_awaits(task.get_coro()))}"


def _awaits(awaited: object) -> Iterator[str]:
    """Yield where a coroutine waits, and the one that it waits for, and so on; a task tells of the first only."""
    while awaited is not None:
        kind = next((kind for kind in ("cr", "ag", "gi") if hasattr(awaited, f"{kind}_frame")), None)
        if kind is None:
            # The step of an asynchronous generator knows its generator, and tells nobody.
            parts = gc.get_referents(awaited)
            awaited = next((part for part in parts if inspect.isasyncgen(part) or inspect.iscoroutine(part)), None)
            continue
        if (frame := getattr(awaited, f"{kind}_frame")) is not None:
            yield "".join(traceback.format_stack(frame, limit=1))
        awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
