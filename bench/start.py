"""How long a start takes until the service answers, and its first plan after that. Target: ready ≤ 3 s, warm."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2

from bench.service import GAME_STATE, PLAN_PATH, running_sequencer

STARTS = 5


def measure() -> dict[str, Any]:
    """Start once to make the data folder, then five times; medians of seconds."""
    with tempfile.TemporaryDirectory() as folder:
        cold, _ = _start(Path(folder))
        warm = [_start(Path(folder)) for _ in range(STARTS)]
    return {
        "ready_cold_s": round(cold, 2),
        "ready_warm_s": [round(ready, 2) for ready, _ in warm],
        "ready_warm_median_s": round(statistics.median(ready for ready, _ in warm), 2),
        "first_plan_median_s": round(statistics.median(plan for _, plan in warm), 2),
        "help_median_s": {name: _help(name) for name in ("api-server", "api-server-cli", "throttling-sequencer")},
    }


def _start(folder: Path) -> tuple[float, float]:
    begun = time.perf_counter()
    with running_sequencer(folder) as url:
        ready = time.perf_counter()
        httpx2.post(url + PLAN_PATH, json=GAME_STATE, timeout=10).raise_for_status()
        return ready - begun, time.perf_counter() - ready


def _help(program: str) -> float:
    taken = []
    for _ in range(STARTS):
        begun = time.perf_counter()
        subprocess.run([Path(sys.executable).with_name(program), "--help"], stdout=subprocess.DEVNULL, check=True)
        taken.append(time.perf_counter() - begun)
    return round(statistics.median(taken), 2)
