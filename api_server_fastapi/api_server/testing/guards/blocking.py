"""Whether an event loop was held up by one of its callbacks.

What counts is the time for which a callback computed or slept. That the machine had no time for it does not: a busy
machine lets nobody fail.
"""
# ruff: noqa: SLF001 - what runs, and where, only asyncio and the interpreter know

import asyncio
import functools
import gc
import inspect
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest_asyncio

from api_server.testing.guards.guard import Guard, replace
from api_server.testing.guards.places import (
    ASYNCIO,
    STANDARD_LIBRARY,
    Place,
    code_of,
    folder_of,
    frames,
    named_coroutine,
    outside,
    place_of,
)

_TICK_S = 0.01
# How old a reading of a thread's clock may be when a callback begins. Reading it is a call of the system, which costs
# more than most callbacks.
_READING_S = 0.002
_FRAMES_SHOWN = 3
_WHO_RUNS_TESTS = (ASYNCIO, folder_of(pytest_asyncio))
_HAS_PROC = Path("/proc/self/task").is_dir()


class BlockingGuard(Guard):
    """Notices callbacks that hold up an event loop for longer than they may.

    Loops of asyncio are watched, each in its thread; uvloop's run their callbacks where Python cannot see them.
    """

    name = "blocking"

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._local = threading.local()
        self._threads: WeakSet[_LoopThread] = WeakSet()
        self._adding = threading.Lock()
        self._found: list[str] = []
        self._watchdog: _Watchdog | None = None
        self._put_back: Callable[[], None] | None = None

    def start(self) -> None:
        # Every callback of every loop passes it.
        self._put_back = replace(asyncio.Handle, "_run", self._measured(asyncio.Handle._run))
        gc.callbacks.append(self._notice_collection)
        self._watchdog = _Watchdog(self._known_threads, self._limit_s)
        self._watchdog.start()

    def stop(self) -> None:
        if self._put_back is not None:
            self._put_back()
        gc.callbacks.remove(self._notice_collection)
        if self._watchdog is not None:
            self._watchdog.stop()

    def happened(self) -> Iterable[str]:
        found, self._found = self._found, []
        return found

    def _measured(self, run: Callable[[asyncio.Handle], None]) -> Callable[[asyncio.Handle], None]:
        local, limit = self._local, self._limit_s
        now, computed = time.perf_counter, time.thread_time

        def measured(handle: asyncio.Handle) -> None:
            try:
                thread: _LoopThread = local.thread
            except AttributeError:
                thread = self._add_thread()
            if thread.callback is not None:
                run(handle)
                return
            begun = now()
            if begun - thread.read_at > _READING_S:
                thread.read_at, thread.reading = begun, computed()
            thread.begun = begun
            thread.collecting = 0.0
            thread.serial += 1
            thread.callback = callback = handle._callback  # type: ignore[attr-defined]  # what the handle is there for
            try:
                run(handle)
            finally:
                thread.callback = None
                # It cannot have computed and slept for longer than it took.
                if (taken := now() - begun) > limit:
                    self._judge(thread, callback, taken)

        return measured

    def _judge(self, thread: "_LoopThread", callback: object, taken: float) -> None:
        # What other callbacks computed between the reading and the beginning is at most the time that passed.
        earlier = thread.begun - thread.read_at
        computing = max(0.0, time.thread_time() - thread.reading - earlier - thread.collecting)
        blocked = min(taken, computing + thread.asleep_in(thread.serial))
        if blocked <= self._limit_s:
            return
        stack = thread.stack if thread.stack_of == thread.serial else []
        what = (
            f"The event loop was blocked for {blocked * 1000:.0f} ms ({min(computing, blocked) * 1000:.0f} of them "
            f"computing; {self._limit_s * 1000:.0f} are allowed) by {_named(callback, stack)}"
        )
        shown = "".join(f"\n  {place}" for place in _shown(stack))
        self._found.append(f"{what}:{shown}" if shown else what)

    def _notice_collection(self, phase: str, info: dict[str, int]) -> None:  # noqa: ARG002 - as gc calls it
        thread: _LoopThread | None = getattr(self._local, "thread", None)
        if thread is None or thread.callback is None:
            return
        if phase == "start":
            thread.collection_began = time.thread_time()
        else:
            thread.collecting += time.thread_time() - thread.collection_began

    def _add_thread(self) -> "_LoopThread":
        thread = _LoopThread(threading.get_ident(), threading.get_native_id(), _clock_of(threading.get_ident()))
        self._local.thread = thread
        with self._adding:
            self._threads.add(thread)
        return thread

    def _known_threads(self) -> "list[_LoopThread]":
        with self._adding:
            return list(self._threads)


@dataclass(slots=True, weakref_slot=True, eq=False)
class _LoopThread:
    """A thread that runs an event loop: which callback, since when, and what is known of it so far."""

    id: int
    native_id: int
    clock: int | None
    callback: object = None
    serial: int = 0
    begun: float = 0.0
    reading: float = 0.0
    read_at: float = float("-inf")
    collecting: float = 0.0
    collection_began: float = 0.0
    # What the watchdog saw of the callback with the number `seen`.
    seen: int = 0
    asleep: float = 0.0
    computed: float = 0.0
    stack_of: int = 0
    stack: list[Place] = field(default_factory=list)

    def asleep_in(self, serial: int) -> float:
        """Return for how long the callback with this number was seen asleep."""
        return self.asleep if self.seen == serial else 0.0


class _Watchdog:
    """Looks at every tick which threads sleep in a callback, and where."""

    def __init__(self, threads: Callable[[], list[_LoopThread]], limit_s: float) -> None:
        self._threads = threads
        self._limit_s = limit_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="event loop watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        last = time.perf_counter()
        while not self._ended.wait(_TICK_S):
            now = time.perf_counter()
            for thread in self._threads():
                # A tick that comes late says nothing about the time before: it may be the machine that was busy.
                self._look_at(thread, now, min(now - last, 2 * _TICK_S))
            last = now

    def _look_at(self, thread: _LoopThread, now: float, elapsed: float) -> None:
        serial = thread.serial
        if thread.callback is None:
            return
        if thread.seen != serial:
            thread.seen, thread.asleep, thread.computed = serial, 0.0, thread.reading
        computed = _read(thread.clock, thread.computed)
        # A thread that waits for its turn to be interpreted is asleep for the system: while this one looks, the other
        # waits. So what it computed since the last tick does not count as sleep.
        slept = min(elapsed, now - thread.begun) - (computed - thread.computed)
        is_asleep = slept > 0 and _is_asleep(thread.native_id)
        if thread.serial != serial or thread.callback is None:
            return
        thread.computed = computed
        if is_asleep:
            thread.asleep += slept
        self._take_stack(thread, computed - thread.reading + thread.asleep)

    def _take_stack(self, thread: _LoopThread, spent: float) -> None:
        """Keep where the thread is, from when it has used up half of what it may until it has used up all."""
        is_first = thread.stack_of != thread.serial
        if spent > self._limit_s / 2 and (is_first or spent <= self._limit_s + 2 * _TICK_S):
            found = frames(sys._current_frames().get(thread.id))
            of_callback = takewhile(lambda frame: frame.f_code.co_filename != __file__, found)
            thread.stack = [place_of(frame) for frame in outside(of_callback, *_WHO_RUNS_TESTS)][::-1]
            thread.stack_of = thread.serial


def _is_asleep(native_id: int) -> bool:
    """Whether a thread waits for something, and not for the processor; True where that cannot be known."""
    if not _HAS_PROC:
        return True
    try:
        text = Path(f"/proc/self/task/{native_id}/stat").read_bytes()
    except OSError:
        return False
    return text[text.rindex(b")") + 2] in b"SD"


def _clock_of(thread_id: int) -> int | None:
    """Return the clock of what a thread computes, where others can read it."""
    clock_of = getattr(time, "pthread_getcpuclockid", None)
    return clock_of(thread_id) if clock_of is not None else None


def _read(clock: int | None, otherwise: float) -> float:
    try:
        return time.clock_gettime(clock) if clock is not None else otherwise
    except OSError:
        return otherwise  # the thread has ended


def _shown(stack: list[Place]) -> list[Place | str]:
    """Choose the innermost frames, and of those that called them the innermost one that is of no library."""
    innermost: list[Place | str] = [*stack[-_FRAMES_SHOWN:]]
    own = [
        place for place in stack if "site-packages" not in place.file and not place.file.startswith(STANDARD_LIBRARY)
    ]
    return [own[-1], "…", *innermost] if own and own[-1] not in innermost else innermost


def _named(callback: object, stack: list[Place]) -> str:
    """Name what the loop called: the coroutine of a task, or a function."""
    while isinstance(callback, functools.partial):
        callback = callback.func
    task = getattr(callback, "__self__", None)
    called = task.get_coro() if isinstance(task, asyncio.Task) else inspect.unwrap(_function_of(callback))
    code = code_of(called)
    if stack and code is not None and code.co_filename.startswith(_WHO_RUNS_TESTS):
        # A fixture, which pytest-asyncio wraps.
        return f"the fixture {stack[0].function}"
    return named_coroutine(called)


def _function_of(callback: object) -> Callable[..., Any]:
    function = getattr(callback, "__func__", callback)
    assert callable(function)
    return function
