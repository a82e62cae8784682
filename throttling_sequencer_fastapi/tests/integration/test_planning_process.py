"""A planning process belongs to its parent."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

SUPPORT = Path(__file__).parents[1] / "support"


def test_the_processes_end_with_a_parent_that_is_killed() -> None:
    """Even in the middle of a search, when they do not listen."""
    code = (
        "import asyncio, lane_doubles\n"
        "from throttling_sequencer.infrastructure.lane import ProcessLane\n"
        "async def main():\n"
        "    lane = ProcessLane(lane_doubles.slow_planner, workers=2, max_waiting=0, max_waiting_ms=0)\n"
        "    await lane.start()\n"
        "    busy = [asyncio.create_task(lane.run(lane_doubles.task(60_000))) for _ in range(2)]\n"
        "    await asyncio.sleep(0.2)\n"
        "    print('started', flush=True)\n"
        "    await asyncio.gather(*busy)\n"
        "if __name__ == '__main__': asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline() == "started\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) >= 2
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
