"""The planning lane: searches run in processes of their own, which the event loop only waits for."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field, replace

import structlog

from throttling_sequencer.application.planning import (
    UNWATCHED,
    LaneBrokenError,
    PlanningTask,
    PlanningTimedOutError,
    PlanningWatch,
)
from throttling_sequencer.domain.unit_plan import UnitPlan
from throttling_sequencer.infrastructure.admission import Admission, Promise, Share
from throttling_sequencer.infrastructure.planning_process import Planner, PlanningProcess

# The answer of so many is unpickled in about 0.2 ms, for which it holds the event loop.
_MOST_COURSES = 25
# So that none waits long for the one whose piece takes the longest.
_PIECES_PER_WORKER = 4

# From its deadline on a caller waits for no longer than half a second, the way of its answer included.
_GRACE_S = 0.4
# A cold process may be late by so much: it loads what the others have loaded before.
_COLD_S = 2.0
# A process that had nothing to do for so long gets warm.
_IDLE_S = 0.2
# How long a caller waits while no process is there.
_START_S = 30.0
_PAUSE_S = 2.0
# How often an idle process is looked at: one that was killed is missed before a plan needs it.
_LOOK_S = 1.0


@dataclass(eq=False, slots=True)
class _Piece:
    """Some of a task's courses, for one process."""

    number: int
    task: PlanningTask
    was_lost: bool = False


@dataclass(eq=False, slots=True)
class _Job:
    """A task that was admitted, and how far it is."""

    task: PlanningTask
    promise: Promise
    outcome: asyncio.Future[list[UnitPlan]]
    waiting: deque[_Piece]
    watch: PlanningWatch
    running: dict[_Piece, tuple[PlanningProcess, Share]] = field(default_factory=dict)
    answers: dict[int, list[UnitPlan]] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None
    has_clock: bool = False
    """Whether its time runs: it does not while there is no process."""

    def fail(self, error: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def answer(self, piece: _Piece, plans: list[UnitPlan]) -> None:
        self.answers[piece.number] = plans
        if not self.waiting and not self.running and not self.outcome.done():
            self.outcome.set_result([plan for number in sorted(self.answers) for plan in self.answers[number]])


log = structlog.get_logger("throttling_sequencer.lane")

_Assignment = tuple[_Job, _Piece, Share]


class ProcessLane:
    """Runs searches in `workers` low-priority processes, and refuses what they could not begin soon enough.

    A task may wait where its process is free within `max_waiting_ms`, and where no more than `max_waiting` wait. It is
    split into pieces that the processes work on at the same time. `make_planner` is a module-level function; each
    process calls it once and plans with what it returns. One after the other they `warm_up`, when there is nothing
    to do. A caller that is cancelled frees its place as soon as the search hears of it, which asks for that once per
    generation.
    """

    def __init__(
        self,
        make_planner: Callable[[], Planner],
        *,
        workers: int,
        max_waiting: int,
        max_waiting_ms: float,
        warm_up: Callable[[], None] | None = None,
    ) -> None:
        self._processes = [PlanningProcess(make_planner) for _ in range(workers)]
        self._warm_up = warm_up
        self._admission = Admission(workers, max_waiting, max_waiting_ms)
        self._jobs: dict[Promise, _Job] = {}
        self._living: set[PlanningProcess] = set()
        self._ready: set[PlanningProcess] = set()
        self._warm: set[PlanningProcess] = set()
        self._warming = asyncio.Lock()
        self._idle: dict[PlanningProcess, asyncio.Future[_Assignment | None]] = {}
        self._attending: list[asyncio.Task[None]] = []
        self._is_closed = asyncio.Event()

    @property
    def is_started(self) -> bool:
        return bool(self._attending)

    @property
    def workers(self) -> int:
        """How many processes the lane is made of."""
        return len(self._processes)

    @property
    def living(self) -> int:
        """How many of them live, as far as the lane knows."""
        return len(self._living)

    @property
    def waiting(self) -> int:
        """How many plans wait for a process."""
        return sum(bool(job.waiting) for job in self._jobs.values())

    @property
    def promised_ms(self) -> float:
        """How many milliseconds of its processes are promised and not spent."""
        return self._admission.outstanding(_now_ms())

    async def start(self) -> None:
        """Start the processes and wait until each has its planner, so that the first plan does not pay for it.

        Raises LaneBrokenError where they do not start.
        """
        started = await asyncio.gather(*(process.start() for process in self._processes), return_exceptions=True)
        for outcome in started:
            if outcome is not None:
                await self.close()
                raise outcome
        self._living.update(self._processes)
        self._attending = [
            asyncio.create_task(self._attend(process), name=f"planning process {number}")
            for number, process in enumerate(self._processes)
        ]

    async def close(self) -> None:
        """Drop what waits, let what runs end, and wait for the processes to be gone."""
        self._is_closed.set()
        for job in list(self._jobs.values()):
            if job.waiting:
                self._drop(job, LaneBrokenError())
        for assigned in self._idle.values():
            assigned.set_result(None)
        self._idle.clear()
        for process in self._processes:
            process.stop_warming_up()
        await asyncio.gather(*self._attending)
        await asyncio.gather(*(process.close() for process in self._processes))

    async def run(self, task: PlanningTask, watch: PlanningWatch = UNWATCHED) -> list[UnitPlan]:
        """Plan in the processes."""
        job = self._admit(task, watch)
        try:
            return await job.outcome
        finally:
            self._drop(job)

    def _admit(self, task: PlanningTask, watch: PlanningWatch) -> _Job:
        if self._is_closed.is_set() or not self._attending:
            raise LaneBrokenError
        pieces = deque(_Piece(number, part) for number, part in enumerate(_parts(task, len(self._processes))))
        sizes = [len(piece.task.courses) for piece in pieces]
        promise = self._admission.admit(task.budget.timeout_ms, sizes, _now_ms())
        job = _Job(task, promise, asyncio.get_running_loop().create_future(), pieces, watch)
        self._jobs[promise] = job
        watch.admitted(promise.left)
        if self._ready:
            self._start_clock(job)
        else:
            job.timer = asyncio.get_running_loop().call_later(_START_S, self._drop, job, LaneBrokenError())
        self._dispatch()
        return job

    def _start_clock(self, job: _Job) -> None:
        if job.timer is not None:
            job.timer.cancel()
        job.has_clock = True
        now = _now_ms()
        job.promise.start_clock(now)
        seconds = (job.promise.deadline - now) / 1000 + _GRACE_S
        if not all(map(self._is_warm, self._processes)):
            seconds += _COLD_S
        job.timer = asyncio.get_running_loop().call_later(seconds, self._time_out, job)

    def _time_out(self, job: _Job) -> None:
        was_lost = any(piece.was_lost for piece in (*job.waiting, *job.running))
        found_no_process = not job.running and len(self._ready) < len(self._processes)
        is_broken = was_lost or found_no_process
        self._drop(job, LaneBrokenError() if is_broken else PlanningTimedOutError(job.task.budget.timeout_ms))

    def _drop(self, job: _Job, error: BaseException | None = None) -> None:
        """Do no more for a job: nobody waits for it, or it has failed."""
        if error is not None:
            job.fail(error)
        if job.timer is not None:
            job.timer.cancel()
        job.waiting.clear()
        self._jobs.pop(job.promise, None)
        self._admission.forget(job.promise)
        for process, share in job.running.values():
            process.call_off()
            self._admission.call_off(share, _now_ms())

    async def _attend(self, process: PlanningProcess) -> None:
        """Give a process one piece after the other until the lane closes; start it anew whenever it was killed."""
        while not self._is_closed.is_set():
            try:
                await self._feed(process)
            except BrokenProcessPool:
                if not self._is_closed.is_set():
                    log.warning("planning process killed", pid=process.pid)
            self._living.discard(process)
            self._ready.discard(process)
            self._warm.discard(process)
            await self._restart(process)

    async def _feed(self, process: PlanningProcess) -> None:
        self._make_ready(process)
        while (assignment := await self._assignment(process)) is not None:
            await self._plan(process, *assignment)

    def _make_ready(self, process: PlanningProcess) -> None:
        self._ready.add(process)
        for job in self._jobs.values():
            if not job.has_clock:
                self._start_clock(job)

    def _is_warm(self, process: PlanningProcess) -> bool:
        return self._warm_up is None or process in self._warm

    async def _get_warm(self, process: PlanningProcess, warm_up: Callable[[], None]) -> None:
        """Raise BrokenProcessPool where the process does not survive it; it may plan though it could not get warm."""
        self._ready.discard(process)
        failure = (await process.warm_up(warm_up)).exception()
        if isinstance(failure, BrokenProcessPool):
            raise failure
        if failure is not None:
            log.warning("planning process not warmed up", pid=process.pid, exc_info=failure)
        self._warm.add(process)
        self._make_ready(process)

    async def _restart(self, process: PlanningProcess) -> None:
        while not self._is_closed.is_set():
            try:
                await process.start()
            except LaneBrokenError as error:
                log.warning("planning process not started", exc_info=error)
                if not self._ready:
                    for job in list(self._jobs.values()):
                        self._drop(job, LaneBrokenError())
            else:
                self._living.add(process)
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_S):
                    await self._is_closed.wait()

    async def _assignment(self, process: PlanningProcess) -> _Assignment | None:
        """Wait for work, and get warm meanwhile. Raises BrokenProcessPool where the process was killed meanwhile."""
        while not self._is_closed.is_set():
            assigned: asyncio.Future[_Assignment | None] = asyncio.get_running_loop().create_future()
            self._idle[process] = assigned
            self._dispatch()
            is_warm = self._is_warm(process)
            await asyncio.wait([assigned], timeout=_LOOK_S if is_warm else _IDLE_S)
            if assigned.done():
                return assigned.result()
            del self._idle[process]
            if not process.is_alive:
                raise BrokenProcessPool
            if not is_warm and self._warm_up is not None and not self._warming.locked():
                async with self._warming:
                    await self._get_warm(process, self._warm_up)
        return None

    def _dispatch(self) -> None:
        """Give pieces to the processes that are idle: none waits anywhere but here, where it can be dropped."""
        now = _now_ms()
        while self._idle and (promise := self._admission.next(now)) is not None:
            job = self._jobs[promise]
            piece = job.waiting.popleft()
            if not promise.has_begun:
                job.watch.begun()
            share = self._admission.begin(promise, len(piece.task.courses), now)
            process = self._next_idle()
            assigned = self._idle.pop(process)
            job.running[piece] = (process, share)
            assigned.set_result((job, piece, share))

    def _next_idle(self) -> PlanningProcess:
        """Choose a process that is warm, if any is idle: one that is not would never find the time to get warm."""
        idle = list(reversed(self._idle))
        return next(filter(self._is_warm, idle), idle[0])

    async def _plan(self, process: PlanningProcess, job: _Job, piece: _Piece, share: Share) -> None:
        """Have a process plan a piece. Raises BrokenProcessPool where it was killed; the piece is not lost by that."""
        task = replace(piece.task, budget=replace(piece.task.budget, timeout_ms=int(share.budget)))
        try:
            answer = await process.plan(task, job.promise.deadline / 1000)
        except BrokenProcessPool:
            self._end(job, piece, share)
            self._put_back(job, piece, share)
            raise
        self._end(job, piece, share)
        error = answer.exception()
        if error is None:
            job.answer(piece, answer.result())
        elif not isinstance(error, BrokenProcessPool):
            self._drop(job, error)
        else:
            self._lose(job, piece, share)
            raise error

    def _end(self, job: _Job, piece: _Piece, share: Share) -> None:
        self._admission.end(share, _now_ms())
        del job.running[piece]

    def _lose(self, job: _Job, piece: _Piece, share: Share) -> None:
        """Have a piece planned anew, once."""
        if piece.was_lost or job.promise.deadline <= _now_ms():
            self._drop(job, LaneBrokenError())
        else:
            piece.was_lost = True
            self._put_back(job, piece, share)

    def _put_back(self, job: _Job, piece: _Piece, share: Share) -> None:
        if self._is_closed.is_set():
            self._drop(job, LaneBrokenError())
        if job.promise not in self._jobs:
            return
        job.waiting.appendleft(piece)
        self._admission.take_back(share)
        self._dispatch()


def _parts(task: PlanningTask, workers: int) -> Iterator[PlanningTask]:
    """Split a task into one for each piece."""
    size = min(_MOST_COURSES, math.ceil(len(task.courses) / (workers * _PIECES_PER_WORKER)))
    for first in range(0, len(task.courses), size):
        yield replace(task, courses=task.courses[first : first + size])


def _now_ms() -> float:
    return time.monotonic() * 1000
