"""The lane: bounded, in processes of its own, and gone when the service is."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest
from planning_doubles import broken_planner, slow_planner, task
from throttling_sequencer.application.planning import LaneBrokenError, LaneFullError
from throttling_sequencer.infrastructure.lane import ProcessLane

SUPPORT = Path(__file__).parents[1] / "support"


@asynccontextmanager
async def started(workers: int = 2, max_waiting: int = 2) -> AsyncIterator[ProcessLane]:
    lane = ProcessLane(slow_planner, workers=workers, max_waiting=max_waiting)
    await lane.start()
    try:
        yield lane
    finally:
        await lane.close()


async def test_plans_run_at_once_in_processes_that_give_way() -> None:
    async with started() as lane:
        answers = await asyncio.gather(lane.run(task(200)), lane.run(task(200)))
        pids = {goals[0].throttle for goals in answers}
        assert len(pids) == 2
        assert os.getpid() not in pids
        assert {psutil.Process(pid).nice() for pid in pids} == {psutil.Process().nice() + 10}


async def test_the_first_plan_finds_its_process_ready() -> None:
    async with started(workers=1) as lane:
        begun = time.perf_counter()
        await lane.run(task(1))
        assert time.perf_counter() - begun < 0.2


async def test_who_comes_when_no_more_may_wait_is_refused_at_once() -> None:
    async with started(workers=1, max_waiting=2) as lane:
        running = [asyncio.create_task(lane.run(task(150))) for _ in range(3)]
        await asyncio.sleep(0)  # lets them in
        begun = time.perf_counter()
        with pytest.raises(LaneFullError) as caught:
            await lane.run(task(150))
        assert time.perf_counter() - begun < 0.05
        assert caught.value.retry_after_s == 1
        await asyncio.gather(*running)
        await lane.run(task(1))


async def test_a_caller_that_leaves_calls_its_search_off_and_frees_its_place() -> None:
    async with started(workers=1, max_waiting=1) as lane:
        for _ in range(5):
            running, waiting = (asyncio.create_task(lane.run(task(60_000))) for _ in range(2))
            await asyncio.sleep(0.05)  # until one of them runs: there is nothing to await
            for left in (running, waiting):
                left.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await left
            async with asyncio.timeout(0.2):
                await free_places(lane, 2)
        await lane.run(task(1))


async def test_a_place_is_taken_until_its_search_has_ended() -> None:
    """The process goes on until it hears that nobody waits; whoever came meanwhile would wait behind it unseen."""
    async with started(workers=1, max_waiting=0) as lane:
        running = asyncio.create_task(lane.run(task(60_000)))
        await asyncio.sleep(0.05)  # until it runs: there is nothing to await
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        with pytest.raises(LaneFullError):
            await lane.run(task(1))


async def test_the_next_search_in_a_place_is_not_called_off_with_the_last_one() -> None:
    async with started(workers=1, max_waiting=0) as lane:
        running = asyncio.create_task(lane.run(task(60_000)))
        await asyncio.sleep(0.05)  # until it runs: there is nothing to await
        running.cancel()
        async with asyncio.timeout(5):
            await free_places(lane, 1)
        begun = time.perf_counter()
        await lane.run(task(100))
        assert time.perf_counter() - begun >= 0.1


async def free_places(lane: ProcessLane, number: int) -> None:
    while len(lane._free_places) < number:
        await asyncio.sleep(0.005)


async def test_a_killed_process_breaks_its_plan_and_the_lane_is_rebuilt() -> None:
    async with started(workers=1) as lane:
        pid = (await lane.run(task(1)))[0].throttle
        running = asyncio.create_task(lane.run(task(5000)))
        await asyncio.sleep(0.1)  # until it runs: there is nothing to await
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(LaneBrokenError):
            await running
        assert (await lane.run(task(1)))[0].throttle != pid


async def test_callers_that_do_not_wait_for_a_new_process_begin_one_and_not_many() -> None:
    async with started(workers=1, max_waiting=2) as lane:
        pid = (await lane.run(task(1)))[0].throttle
        os.kill(pid, signal.SIGKILL)
        processes: set[int] = set()
        for _ in range(20):
            with suppress(TimeoutError, LaneBrokenError):
                async with asyncio.timeout(0.02):
                    await lane.run(task(60_000))
            processes |= {child.pid for child in psutil.Process().children() if "spawn_main" in str(child.cmdline())}
        async with asyncio.timeout(10):
            assert (await lane.run(task(1)))[0].throttle != pid
        assert len(processes - {pid}) <= 1


async def test_closing_leaves_no_process_behind() -> None:
    async with started() as lane:
        answers = await asyncio.gather(lane.run(task(50)), lane.run(task(50)))
    assert not any(psutil.pid_exists(goals[0].throttle) for goals in answers)
    for _ in range(10):
        with pytest.raises(LaneBrokenError):
            await lane.run(task(1))


async def test_a_lane_whose_planner_cannot_be_made_does_not_start() -> None:
    lane = ProcessLane(broken_planner, workers=2, max_waiting=0)
    with pytest.raises(LaneBrokenError):
        await asyncio.wait_for(lane.start(), 20)


def test_the_processes_end_with_a_parent_that_is_killed() -> None:
    """Even in the middle of a search, when they do not listen."""
    code = (
        "import asyncio, planning_doubles\n"
        "from throttling_sequencer.infrastructure.lane import ProcessLane\n"
        "async def main():\n"
        "    lane = ProcessLane(planning_doubles.slow_planner, workers=2, max_waiting=0)\n"
        "    await lane.start()\n"
        "    busy = [asyncio.create_task(lane.run(planning_doubles.task(60_000))) for _ in range(2)]\n"
        "    await asyncio.sleep(0.2)\n"
        "    print('started', flush=True)\n"
        "    await asyncio.gather(*busy)\n"
        "if __name__ == '__main__': asyncio.run(main())\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SUPPORT)}, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline() == "started\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) >= 2
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
