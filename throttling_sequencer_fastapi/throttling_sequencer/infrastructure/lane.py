"""The planning lane: searches run in processes of their own, which the event loop only waits for."""

import asyncio
import math
import multiprocessing
import os
from collections.abc import Callable, MutableSequence, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.synchronize import Semaphore

from api_server.processes import when_parent_ends

from throttling_sequencer.application.planning import LaneBrokenError, LaneFullError, PlanningTask
from throttling_sequencer.domain.game import UnitGoal
from throttling_sequencer.domain.navigation import Progress

Planner = Callable[[PlanningTask, Progress], list[UnitGoal]]

# Plans give way to whatever answers requests: the event loop shares the cores with them.
_NICENESS = 10

# Not forked: the parent has threads and an event loop that a forked child could not use.
_SPAWN = multiprocessing.get_context("spawn")


class ProcessLane:
    """Runs pure Python searches in `workers` low-priority processes; up to `max_waiting` more tasks may wait.

    `make_planner` is a module-level function; each process calls it once and plans with what it returns. A caller that
    is cancelled frees its place as soon as the search hears of it, which asks for that once per generation.
    """

    def __init__(self, make_planner: Callable[[], Planner], *, workers: int, max_waiting: int) -> None:
        self._make_planner = make_planner
        self._workers = workers
        self._max_waiting = max_waiting
        # Shared with the processes: one flag a place, raised for a search whose caller left.
        self._called_off: MutableSequence[int] = _SPAWN.RawArray("B", workers + max_waiting)
        self._free_places = list(range(workers + max_waiting))
        self._pool: ProcessPoolExecutor | None = None
        self._is_closed = False
        self._start: asyncio.Task[ProcessPoolExecutor] | None = None

    async def start(self) -> None:
        """Start the processes and wait until each has its planner, so that the first plan does not pay for it.

        Raises LaneBrokenError where they do not start.
        """
        await self._usable_pool()

    async def close(self) -> None:
        """Drop what waits, let what runs end, and wait for the processes to be gone."""
        self._is_closed = True
        if self._start is not None:
            with suppress(LaneBrokenError):
                await self._start
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)

    async def run(self, task: PlanningTask) -> list[UnitGoal]:
        """Plan in one of the processes."""
        if not self._free_places:
            seconds = self._max_waiting * task.budget.timeout_ms / 1000 / self._workers
            raise LaneFullError(self._max_waiting, retry_after_s=max(1, math.ceil(seconds)))
        place = self._free_places.pop()
        try:
            pool = await self._usable_pool()
            try:
                future = pool.submit(_plan, task, place)
            except BrokenProcessPool:
                pool = await self._usable_pool(instead_of=pool)
                future = pool.submit(_plan, task, place)
        except BrokenProcessPool as error:
            self._leave(place)
            raise LaneBrokenError from error
        except BaseException:
            self._leave(place)
            raise
        # A place is free when its task is done, not when its caller is gone: the process may go on with it a little.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave, place))
        try:
            return await asyncio.wrap_future(future)
        except BrokenProcessPool as error:
            await self._usable_pool(instead_of=pool)
            raise LaneBrokenError from error
        except asyncio.CancelledError:
            if not future.done():
                self._called_off[place] = True
            raise

    def _leave(self, place: int) -> None:
        self._called_off[place] = False
        self._free_places.append(place)

    async def _usable_pool(self, instead_of: ProcessPoolExecutor | None = None) -> ProcessPoolExecutor:
        """Return the pool; in place of one of which a process was killed, a new one, made by the first who asks."""
        if self._is_closed:
            raise LaneBrokenError
        if self._pool is not None and self._pool is not instead_of:
            return self._pool
        self._pool = None
        if self._start is None:
            self._start = asyncio.create_task(self._start_pool(), name="planning processes")
            # It may fail when nobody waits for it any more.
            self._start.add_done_callback(lambda start: start.cancelled() or start.exception())
        # Shielded: who waits may leave, and whoever comes next finds what was begun.
        return await asyncio.shield(self._start)

    async def _start_pool(self) -> ProcessPoolExecutor:
        try:
            self._pool = await asyncio.to_thread(self._new_pool)
        except BrokenProcessPool as error:
            raise LaneBrokenError from error
        finally:
            self._start = None
        return self._pool

    def _new_pool(self) -> ProcessPoolExecutor:
        prepared = _SPAWN.Semaphore(0)
        pool = ProcessPoolExecutor(self._workers, _SPAWN, _prepare, (self._make_planner, self._called_off, prepared))
        # Each of these makes the pool start one more process.
        starts = [pool.submit(os.getpid) for _ in range(self._workers)]
        for _ in range(self._workers):
            while not prepared.acquire(timeout=0.1):
                for start in starts:
                    if start.done():
                        start.result()
        return pool


_planner: Planner | None = None
_called_off: Sequence[int] = ()


def _prepare(make_planner: Callable[[], Planner], called_off: Sequence[int], prepared: Semaphore) -> None:
    """Make this process a planning process."""
    # One planner per process; the pool offers no other place for it.
    global _planner, _called_off
    # Signals reach every process of a session, as Ctrl-C does; this one ends when its parent says so, or is gone.
    os.setsid()
    when_parent_ends(lambda: os._exit(1))
    os.nice(_NICENESS)
    _planner, _called_off = make_planner(), called_off
    prepared.release()


def _plan(task: PlanningTask, place: int) -> list[UnitGoal]:
    assert _planner is not None

    def is_wanted(generation: int, score: float, throttles: Sequence[int]) -> bool:  # noqa: ARG001 - a Progress
        return not _called_off[place]

    return _planner(task, is_wanted)
