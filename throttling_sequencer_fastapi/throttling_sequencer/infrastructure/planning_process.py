"""A process that plans, one task at a time."""

import asyncio
import gc
import multiprocessing
import os
import time
from collections.abc import Callable, MutableSequence, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from typing import ParamSpec, TypeVar

from api_server.processes import when_parent_ends

from throttling_sequencer.application.planning import LaneBrokenError, PlanningTask
from throttling_sequencer.domain.navigation import Progress
from throttling_sequencer.domain.unit_plan import UnitPlan

P = ParamSpec("P")
T = TypeVar("T")

Planner = Callable[[PlanningTask, Progress], list[UnitPlan]]

# Plans give way to whatever answers requests: the event loop shares the cores with them.
_NICENESS = 10

# How long a search may go on after it was called off. It asks for that once per generation.
_PATIENCE_S = 0.5

# Not forked: the parent has threads and an event loop that a forked child could not use.
_SPAWN = multiprocessing.get_context("spawn")


class PlanningProcess:
    """Plans with what `make_planner` returns, a module-level function that the process calls once."""

    def __init__(self, make_planner: Callable[[], Planner]) -> None:
        self._make_planner = make_planner
        # Shared with the process: raised for a search that nobody waits for any more.
        self._called_off: MutableSequence[int] = _SPAWN.RawArray("B", 1)
        # A pool of one: it breaks as a whole when one of its processes is killed.
        self._pool: ProcessPoolExecutor | None = None
        self.pid: int | None = None
        self._killing: asyncio.TimerHandle | None = None
        self._is_getting_warm = False

    async def start(self) -> None:
        """Start the process, in place of one that is gone, and wait until it has its planner.

        Raises LaneBrokenError where it does not get that far.
        """
        await self.close()
        self._pool = ProcessPoolExecutor(1, _SPAWN, _prepare, (self._make_planner, self._called_off))
        try:
            # It starts the process, which takes a while.
            started = await asyncio.to_thread(self._pool.submit, os.getpid)
            self.pid = await asyncio.wrap_future(started)
        except (BrokenProcessPool, OSError) as error:
            raise LaneBrokenError from error

    @property
    def is_alive(self) -> bool:
        """Whether the process is there; the pool notices by itself that one is gone, and reaps it."""
        if self.pid is None:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    async def warm_up(self, warm_up: Callable[[], None]) -> asyncio.Future[None]:
        """Have the process run a module-level function, so that no plan is slow for it; return what came of it.

        Raises BrokenProcessPool where the process was gone before; where it went away meanwhile, that came of it.
        """
        self._is_getting_warm = True
        try:
            return await self._outcome(_get_warm, warm_up)
        finally:
            self._is_getting_warm = False

    def stop_warming_up(self) -> None:
        """Kill the process if it is getting warm, which may take long and cannot be called off."""
        if self._is_getting_warm:
            self._kill()

    async def plan(self, task: PlanningTask, deadline: float) -> asyncio.Future[list[UnitPlan]]:
        """Plan within the task's budget, and until a time of the monotonic clock; as `warm_up` otherwise."""
        try:
            return await self._outcome(_plan, task, deadline)
        finally:
            # Not before it: a search may be called off before it begins.
            self._called_off[0] = False
            if self._killing is not None:
                self._killing.cancel()
                self._killing = None

    async def _outcome(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        if self._pool is None:
            raise BrokenProcessPool
        answer = asyncio.wrap_future(self._pool.submit(call, *args, **kwargs))
        await asyncio.wait([answer])
        return answer

    def call_off(self) -> None:
        """Have the search end now, and kill the process if it does not listen."""
        self._called_off[0] = True
        if self._killing is None:
            self._killing = asyncio.get_running_loop().call_later(_PATIENCE_S, self._kill)

    async def close(self) -> None:
        """Wait until the process is gone."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)

    def _kill(self) -> None:
        for child in multiprocessing.active_children():
            if child.pid == self.pid:
                child.kill()


_planner: Planner | None = None
_called_off: Sequence[int] = ()


def _prepare(make_planner: Callable[[], Planner], called_off: Sequence[int]) -> None:
    """Make this process a planning process."""
    # One planner per process; the pool offers no other place for it.
    global _planner, _called_off
    # Signals reach every process of a session, as Ctrl-C does; this one ends when its parent says so, or is gone.
    os.setsid()
    when_parent_ends(lambda: os._exit(1))
    os.nice(_NICENESS)
    _planner, _called_off = make_planner(), called_off


def _get_warm(warm_up: Callable[[], None]) -> None:
    warm_up()
    # Whatever a process loads it keeps. To look through all that again costs a search the better part of 100 ms.
    gc.collect()
    gc.freeze()


class _CalledOffError(Exception):
    """Nobody waits for the search any more."""


def _plan(task: PlanningTask, deadline: float) -> list[UnitPlan]:
    assert _planner is not None
    left_ms = int((deadline - time.monotonic()) * 1000)
    timeout_ms = max(len(task.courses), min(task.budget.timeout_ms, left_ms))
    # An error ends a task of many courses at once; a search that is only told to stop is followed by the next one.
    with suppress(_CalledOffError):
        return _planner(replace(task, budget=replace(task.budget, timeout_ms=timeout_ms)), _go_on)
    return []


def _go_on(generation: int, score: float, throttles: Sequence[int]) -> bool:  # noqa: ARG001 - a Progress
    if _called_off[0]:
        raise _CalledOffError
    return True
