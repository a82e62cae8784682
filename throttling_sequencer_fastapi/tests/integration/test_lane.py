"""The lane: bounded, in processes of its own, and gone when the service is."""

import asyncio
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from random import Random

import psutil
import pytest
import pytest_asyncio
from lane_doubles import WARM_UP_S, broken_planner, endless_warm_up, failing_warm_up, slow_planner, task, warm_up
from throttling_sequencer.application.planning import (
    LaneBrokenError,
    LaneFullError,
    PlanningTask,
    PlanningTimedOutError,
)
from throttling_sequencer.domain.unit_plan import UnitPlan
from throttling_sequencer.infrastructure.lane import ProcessLane

# Where it is no matter how long it takes.
QUICK = task(3000, strategy="quick")

# Starting processes takes longer than most of what is tested: tests share the lanes that they leave as they were.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def started(
    workers: int = 2,
    max_waiting: int = 256,
    max_waiting_ms: float = 1000,
    warm_up: Callable[[], None] | None = None,
) -> AsyncIterator[ProcessLane]:
    more = {} if warm_up is None else {"warm_up": warm_up}
    lane = ProcessLane(slow_planner, workers=workers, max_waiting=max_waiting, max_waiting_ms=max_waiting_ms, **more)
    await lane.start()
    try:
        yield lane
    finally:
        await lane.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_lane() -> AsyncIterator[ProcessLane]:
    async with started() as lane:
        yield lane


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_narrow_lane() -> AsyncIterator[ProcessLane]:
    async with started(workers=1, max_waiting=2, max_waiting_ms=math.inf) as lane:
        yield lane


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_strict_lane() -> AsyncIterator[ProcessLane]:
    async with started(workers=1, max_waiting=0) as lane:
        yield lane


@pytest_asyncio.fixture(loop_scope="module")
async def lane(shared_lane: ProcessLane) -> ProcessLane:
    """One of two processes, where a plan may have to wait for a second."""
    return await at_rest(shared_lane)


@pytest_asyncio.fixture(loop_scope="module")
async def narrow_lane(shared_narrow_lane: ProcessLane) -> ProcessLane:
    """One of one process, where two plans may wait, for as long as it takes."""
    return await at_rest(shared_narrow_lane)


@pytest_asyncio.fixture(loop_scope="module")
async def strict_lane(shared_strict_lane: ProcessLane) -> ProcessLane:
    """One of one process, where nobody may wait."""
    return await at_rest(shared_strict_lane)


async def at_rest(lane: ProcessLane) -> ProcessLane:
    async with asyncio.timeout(10):
        while len(lane._idle) < len(lane._processes):
            await asyncio.sleep(0.002)
    assert lane._jobs == {}
    assert lane._admission.wait(0) == 0
    return lane


def begun(lane: ProcessLane, *tasks: PlanningTask) -> list[asyncio.Task[list[UnitPlan]]]:
    return [asyncio.create_task(lane.run(task)) for task in tasks]


async def admitted(lane: ProcessLane, *tasks: PlanningTask) -> list[bool]:
    outcomes = await asyncio.gather(*begun(lane, *tasks), return_exceptions=True)
    return [not isinstance(outcome, LaneFullError) for outcome in outcomes]


async def leave(callers: Iterable[asyncio.Task[list[UnitPlan]]]) -> None:
    for caller in callers:
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller


def pids(plans: list[UnitPlan]) -> set[int]:
    """Return which processes planned, as the slow planner tells it."""
    return {plan.plan.throttles[0] for plan in plans}


def budgets(plans: list[UnitPlan]) -> list[int]:
    """Return the budget of each plan's piece, as the slow planner tells it."""
    return [plan.plan.throttles[1] for plan in plans]


async def test_plans_run_at_once_in_processes_that_give_way(lane: ProcessLane) -> None:
    first, second = await asyncio.gather(lane.run(task(100)), lane.run(task(100)))
    both = pids(first) | pids(second)
    assert len(both) == 2
    assert os.getpid() not in both
    assert {psutil.Process(pid).nice() for pid in both} == {psutil.Process().nice() + 10}


async def test_the_first_plan_finds_its_process_ready() -> None:
    waits = []
    for _ in range(3):
        async with started(workers=1) as lane:
            asked = time.perf_counter()
            await lane.run(task(1))
            waits.append(time.perf_counter() - asked)
    assert min(waits) < 0.1


class TestAdmission:
    async def test_who_comes_when_no_more_may_wait_is_refused_at_once(self, narrow_lane: ProcessLane) -> None:
        callers = begun(narrow_lane, *[task(150)] * 3)
        await asyncio.sleep(0)  # lets them in
        asked = time.perf_counter()
        with pytest.raises(LaneFullError, match=r"^planning is promised for the next 0\.5 s, and 2 plans are waiting"):
            await narrow_lane.run(task(150))
        assert time.perf_counter() - asked < 0.05
        await asyncio.gather(*callers)
        await narrow_lane.run(QUICK)

    async def test_it_is_milliseconds_that_count_and_not_plans(self, lane: ProcessLane) -> None:
        assert await admitted(lane, *[task(1)] * 100) == [True] * 100
        assert await admitted(lane, *[task(400)] * 10) == [True] * 5 + [False] * 5

    async def test_who_comes_back_when_told_is_admitted(self, lane: ProcessLane) -> None:
        callers = begun(lane, *[task(1000)] * 2)
        await asyncio.sleep(0)  # lets them in
        with pytest.raises(LaneFullError) as refused:
            await lane.run(task(1))
        assert refused.value.retry_after_s == 1
        await asyncio.sleep(refused.value.retry_after_s)
        assert await admitted(lane, task(1)) == [True]
        await asyncio.gather(*callers)

    async def test_a_search_that_ends_early_gives_its_time_back(self, lane: ProcessLane) -> None:
        for _ in range(10):
            await asyncio.gather(*begun(lane, *[task(10_000, strategy="quick")] * 2))

    async def test_a_place_is_taken_until_its_search_has_ended(self, strict_lane: ProcessLane) -> None:
        """The process goes on until it hears that nobody waits; whoever came meanwhile would wait behind it unseen."""
        callers = begun(strict_lane, task(60_000))
        await asyncio.sleep(0.05)  # until it runs: there is nothing to await
        await leave(callers)
        with pytest.raises(LaneFullError) as refused:
            await strict_lane.run(task(1))
        assert refused.value.retry_after_s == 1

    @pytest.mark.slow
    async def test_at_four_times_its_capacity_it_answers_in_time_or_refuses_at_once(self, lane: ProcessLane) -> None:
        random = Random(4)
        waits: list[float] = []

        async def ask(asked_for: PlanningTask) -> float | None:
            """Return by how much the answer was late, None where it was refused."""
            asked = time.monotonic()
            caller = asyncio.create_task(lane.run(asked_for))
            await asyncio.sleep(0)  # lets it in
            deadline = next((job.promise.deadline for job in lane._jobs.values() if job.task is asked_for), 0) / 1000
            try:
                await caller
            except LaneFullError:
                waits.append(time.monotonic() - asked)
                return None
            return time.monotonic() - deadline

        async with ticking() as lags:
            callers = []
            ends = time.monotonic() + 2.5
            while time.monotonic() < ends:
                budget, courses = random.choice([5, 20, 100, 300]), random.choice([1, 1, 1, 60])
                callers.append(asyncio.create_task(ask(task(budget, courses))))
                # One course takes one of the two processes, many take both.
                await asyncio.sleep(budget / 1000 / 4 / (2 if courses == 1 else 1))
            late = await asyncio.gather(*callers)
        answered = [by for by in late if by is not None]
        assert len(answered) >= 20
        assert max(answered) <= 0.5
        assert len(waits) >= 20
        assert max(waits) <= 0.05
        assert max(lags) <= 0.1


@asynccontextmanager
async def ticking() -> AsyncIterator[list[float]]:
    """Yield by how much the event loop was late each time, in seconds."""
    lags: list[float] = []

    async def tick() -> None:
        while True:
            due = time.perf_counter() + 0.005
            await asyncio.sleep(0.005)
            lags.append(time.perf_counter() - due)

    ticks = asyncio.create_task(tick())
    yield lags
    ticks.cancel()


class TestTasksOfManyCourses:
    async def test_the_answers_are_in_the_order_of_the_courses(self, lane: ProcessLane) -> None:
        plans = await lane.run(task(1000, 100, "late for the first"))
        assert [plan.unit_index for plan in plans] == list(range(100))

    async def test_both_processes_work_at_once(self, lane: ProcessLane) -> None:
        asked = time.perf_counter()
        plans = await lane.run(task(300, courses=100))
        assert time.perf_counter() - asked < 0.5
        assert len(pids(plans)) == 2
        # Of twice 300 ms for a hundred.
        assert budgets(plans)[0] == 13 * 6

    async def test_what_the_early_ones_leave_is_for_the_later_ones(self, lane: ProcessLane) -> None:
        given = budgets(await lane.run(task(400, courses=80, strategy="quick")))
        assert given[0] == 100
        assert given[-1] > 300

    async def test_a_course_gets_a_millisecond_however_many_there_are(self, lane: ProcessLane) -> None:
        plans = await lane.run(task(10, courses=200))
        assert min(budgets(plans)) >= 25

    async def test_a_small_task_that_comes_later_does_not_wait_for_the_whole(self, lane: ProcessLane) -> None:
        callers = begun(lane, task(900, courses=200))
        await asyncio.sleep(0.05)  # until it runs: there is nothing to await
        asked = time.perf_counter()
        await lane.run(task(20))
        assert time.perf_counter() - asked < 0.3
        assert not callers[0].done()
        await asyncio.gather(*callers)

    async def test_small_tasks_that_keep_coming_do_not_keep_it_from_ending_in_time(self, lane: ProcessLane) -> None:
        async def ask() -> None:
            with suppress(LaneFullError):
                await lane.run(task(100))

        asked = time.perf_counter()
        callers = begun(lane, task(500, courses=200))
        small = []
        while not callers[0].done():
            small.append(asyncio.create_task(ask()))
            await asyncio.sleep(0.01)
        assert len(await callers[0]) == 200
        assert time.perf_counter() - asked <= 0.5 + 0.2
        await asyncio.gather(*small)


class TestCallersThatLeave:
    async def test_they_call_their_search_off_and_free_their_place(self, narrow_lane: ProcessLane) -> None:
        for _ in range(5):
            callers = begun(narrow_lane, *[task(60_000)] * 2)
            await asyncio.sleep(0.05)  # until one of them runs: there is nothing to await
            await leave(callers)
            async with asyncio.timeout(0.2):
                await at_rest(narrow_lane)
        await narrow_lane.run(QUICK)

    async def test_whoever_leaves_at_once_leaves_no_search_behind(self, lane: ProcessLane) -> None:
        for _ in range(10):
            callers = begun(lane, *[task(60_000)] * 2)
            await asyncio.sleep(0)  # lets them in, and no further
            await leave(callers)
            async with asyncio.timeout(0.2):
                await at_rest(lane)

    @pytest.mark.parametrize("strategy", [None, "listening between courses"])
    async def test_that_of_many_courses_frees_all_its_places(self, lane: ProcessLane, strategy: str | None) -> None:
        callers = begun(lane, task(60_000, 1000, strategy))
        await asyncio.sleep(0.05)  # until it runs: there is nothing to await
        await leave(callers)
        async with asyncio.timeout(0.2):
            await at_rest(lane)

    async def test_the_next_search_of_a_process_is_not_called_off_with_the_last_one(
        self, strict_lane: ProcessLane
    ) -> None:
        callers = begun(strict_lane, task(60_000))
        await asyncio.sleep(0.05)  # until it runs: there is nothing to await
        await leave(callers)
        await at_rest(strict_lane)
        asked = time.perf_counter()
        await strict_lane.run(task(700))
        assert time.perf_counter() - asked >= 0.7

    async def test_a_search_that_does_not_listen_is_ended_with_its_process(self, strict_lane: ProcessLane) -> None:
        (plan,) = await strict_lane.run(QUICK)
        callers = begun(strict_lane, task(60_000, strategy="stuck"))
        await asyncio.sleep(0.05)  # until it runs: there is nothing to await
        await leave(callers)
        await at_rest(strict_lane)
        assert pids(await strict_lane.run(QUICK)) != pids([plan])


class TestSearchesThatDoNotEnd:
    async def test_the_caller_is_told_within_half_a_second_and_the_process_is_replaced(self, lane: ProcessLane) -> None:
        asked = time.perf_counter()
        stuck = begun(lane, task(50, strategy="stuck"), task(50, courses=3, strategy="stuck"))
        for caller in stuck:
            with pytest.raises(PlanningTimedOutError, match="its budget was 50 ms"):
                await caller
        assert time.perf_counter() - asked <= 0.05 + 0.5 + 0.1
        await at_rest(lane)
        await lane.run(QUICK)

    async def test_others_are_answered_meanwhile(self, lane: ProcessLane) -> None:
        stuck = begun(lane, task(50, strategy="stuck"))
        await asyncio.gather(*begun(lane, *[task(20)] * 5))
        assert not stuck[0].done()
        with pytest.raises(PlanningTimedOutError):
            await stuck[0]


class TestProcessesThatGoAway:
    async def test_what_a_killed_process_planned_is_planned_by_another(self, narrow_lane: ProcessLane) -> None:
        (pid,) = pids(await narrow_lane.run(QUICK))
        callers = begun(narrow_lane, task(3000), QUICK)
        await asyncio.sleep(0.1)  # until the first runs: there is nothing to await
        os.kill(pid, signal.SIGKILL)
        (first, second) = await asyncio.gather(*callers)
        assert pid not in pids(first) | pids(second)
        assert budgets(first)[0] < 3000

    async def test_what_is_killed_twice_is_given_up(self, lane: ProcessLane) -> None:
        with pytest.raises(LaneBrokenError):
            await lane.run(task(5000, strategy="crash"))
        await at_rest(lane)
        await lane.run(QUICK)

    async def test_other_processes_go_on(self, lane: ProcessLane) -> None:
        callers = begun(lane, *[task(800)] * 2)
        await asyncio.sleep(0.1)  # until they run: there is nothing to await
        killed, other = (process.pid for job in lane._jobs.values() for process, _ in job.running.values())
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        (first, second) = await asyncio.gather(*callers)
        assert killed not in pids(first)
        assert pids(second) == {other}

    async def test_one_that_goes_away_while_it_is_idle_costs_nobody_a_plan(self, lane: ProcessLane) -> None:
        for process in lane._processes:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
        await asyncio.sleep(0.2)  # until their pools know of it: there is nothing to await
        await asyncio.gather(*begun(lane, *[QUICK] * 2))

    async def test_callers_that_do_not_wait_for_a_new_one_begin_one_and_not_many(
        self, narrow_lane: ProcessLane
    ) -> None:
        (pid,) = pids(await narrow_lane.run(QUICK))
        before = planning_processes()
        os.kill(pid, signal.SIGKILL)
        processes: set[int] = set()
        for _ in range(20):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await narrow_lane.run(task(60_000))
            processes |= planning_processes()
        async with asyncio.timeout(10):
            assert pid not in pids(await narrow_lane.run(QUICK))
        assert len(processes - before) <= 1

    async def test_an_error_of_the_planner_is_its_callers_and_not_tried_again(self, lane: ProcessLane) -> None:
        with pytest.raises(RuntimeError, match="no plan today"):
            await lane.run(task(1000, courses=100, strategy="fail"))
        await at_rest(lane)

    async def test_a_lane_whose_planner_cannot_be_made_does_not_start(self) -> None:
        lane = ProcessLane(broken_planner, workers=2, max_waiting=0, max_waiting_ms=1000)
        with pytest.raises(LaneBrokenError):
            await asyncio.wait_for(lane.start(), 20)
        with pytest.raises(LaneBrokenError):
            await lane.run(task(1))


def planning_processes() -> set[int]:
    found = set()
    for child in psutil.Process().children():
        # Other tests' processes may just have ended.
        with suppress(psutil.NoSuchProcess):
            if "spawn_main" in str(child.cmdline()):
                found.add(child.pid)
    return found


class TestIdleProcesses:
    async def test_one_that_is_killed_is_missed_before_a_plan_needs_it(self) -> None:
        async with started(workers=1) as lane:
            await at_rest(lane)
            pid = lane._processes[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(20):
                while lane._processes[0].pid == pid or lane.living < 1:
                    await asyncio.sleep(0.01)
            assert await lane.run(QUICK)


class TestWarmUp:
    async def test_neither_a_start_nor_the_plans_after_it_wait_for_it(self) -> None:
        async with started(max_waiting=3, max_waiting_ms=math.inf, warm_up=warm_up) as lane:
            waits: list[float] = []
            async with asyncio.timeout(20):
                while len(waits) < 20 or len(lane._warm) < 2:
                    asked = time.perf_counter()
                    await lane.run(QUICK)
                    waits.append(time.perf_counter() - asked)
                    await asyncio.sleep(0.01)
            assert max(waits) < WARM_UP_S / 2

    async def test_where_the_only_process_gets_warm_the_clock_stands_still(self) -> None:
        async with started(workers=1, max_waiting=3, max_waiting_ms=math.inf, warm_up=warm_up) as lane:
            while not lane._warming.locked():
                await asyncio.sleep(0.01)
            asked = time.perf_counter()
            await asyncio.gather(*begun(lane, *[task(100, strategy="quick")] * 3))
            assert 0.5 * WARM_UP_S < time.perf_counter() - asked < 2 * WARM_UP_S

    @pytest.mark.slow
    async def test_a_new_process_gets_warm_as_the_first_ones_did(self) -> None:
        async with started(warm_up=warm_up) as lane:
            for _ in range(2):
                async with asyncio.timeout(20):
                    while len(lane._warm) < 2:
                        await asyncio.sleep(0.01)
                (pid,) = pids(await lane.run(QUICK))
                os.kill(pid, signal.SIGKILL)
                async with asyncio.timeout(20):
                    while len(lane._warm) == 2:
                        await lane.run(QUICK)

    async def test_a_process_that_cannot_get_warm_plans_all_the_same(self) -> None:
        async with started(workers=1, warm_up=failing_warm_up) as lane:
            await lane.run(QUICK)


class TestTheEnd:
    async def test_what_waits_is_told_and_what_runs_ends_and_no_process_is_left(self) -> None:
        async with started() as lane:
            await at_rest(lane)
            running = begun(lane, *[task(300)] * 2)
            waiting = begun(lane, task(300), task(300, courses=100))
            await asyncio.sleep(0.1)  # until the first run: there is nothing to await
        answers = await asyncio.gather(*running)
        assert not any(psutil.pid_exists(pid) for plans in answers for pid in pids(plans))
        for caller in waiting:
            with pytest.raises(LaneBrokenError):
                await caller
        for _ in range(10):
            with pytest.raises(LaneBrokenError):
                await lane.run(task(1))

    async def test_it_does_not_wait_for_a_process_that_gets_warm(self) -> None:
        async with started(workers=1, warm_up=endless_warm_up) as lane:
            while not lane._processes[0]._is_getting_warm:
                await asyncio.sleep(0.01)
            left = time.perf_counter()
        assert time.perf_counter() - left < 2
        assert not psutil.pid_exists(lane._processes[0].pid or 0)

    async def test_it_does_not_wait_for_a_search_that_does_not_end(self) -> None:
        async with started() as lane:
            callers = begun(lane, task(100, strategy="stuck"), task(60_000))
            await asyncio.sleep(0.1)  # until they run: there is nothing to await
            await leave(callers)
            left = time.perf_counter()
        assert time.perf_counter() - left < 2
