"""How long `/livez` takes while plans are in flight. Target: at most 100 ms at worst, with 8 plans of 1 s each."""

import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2

from bench.service import GAME_STATE, PLAN_PATH, running_sequencer

PLANS = 8
ROUNDS = 5


def measure() -> dict[str, Any]:
    """Probe as fast as a probe a time allows, idle and with plans in flight; milliseconds."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_sequencer(Path(folder), SEQUENCER_GENERATIONS="1000000") as url,
    ):
        idle = [_probed(url, plans=0) for _ in range(ROUNDS)]
        busy = [_probed(url, plans=PLANS) for _ in range(ROUNDS)]
    return {
        "idle_worst_ms": [round(max(times), 1) for times in idle],
        "busy_worst_ms": [round(max(times), 1) for times in busy],
        "busy_p50_ms": round(statistics.median(time for times in busy for time in times), 2),
        "busy_p99_ms": round(statistics.quantiles([time for times in busy for time in times], n=100)[98], 2),
        "probes": sum(len(times) for times in busy),
    }


def _probed(url: str, plans: int) -> list[float]:
    times: list[float] = []
    # One client for the plans: making one each would keep this process, and so the prober, from running.
    with (
        ThreadPoolExecutor(PLANS) as threads,
        httpx2.Client(base_url=url, timeout=30) as client,
        httpx2.Client(base_url=url) as prober,
    ):
        running = [threads.submit(client.post, PLAN_PATH, json=GAME_STATE) for _ in range(plans)]
        until = time.perf_counter() + 2.0
        while time.perf_counter() < until or not all(plan.done() for plan in running):
            asked = time.perf_counter()
            prober.get("/livez").raise_for_status()
            times.append((time.perf_counter() - asked) * 1000)
            time.sleep(0.005)
        for plan in running:
            plan.result().raise_for_status()
    return times
