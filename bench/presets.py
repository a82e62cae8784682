"""How soon a preset that was changed on one worker is what another one plans with. Target: 50 ms, typically.

Two services on one database. A preset is changed on the first; the second is asked for plans without a pause until one
is made with the new configuration. What is measured ends with the answer that holds that plan.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2

from bench.figures import at_most, median, percentile
from bench.service import GAME_STATE, PLAN_PATH, running_sequencer

ROUNDS = 200
PRESETS_PATH = "/api/v1/presets"


def measure() -> dict[str, Any]:
    """Change a preset again and again; milliseconds from the answer to the change until the other worker's plan."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_sequencer(Path(folder)) as one,
        running_sequencer(Path(folder)) as other,
        httpx2.Client(base_url=one, timeout=10) as writer,
        httpx2.Client(base_url=other, timeout=10) as asker,
    ):
        delays, own = _delays(writer, asker)
    return {
        "another_worker_median_ms": at_most(50, median(delays)),
        "another_worker_p99_ms": at_most(1000, percentile(delays, 99)),
        "another_worker_longest_ms": round(max(delays), 2),
        "its_own_worker_median_ms": median(own),
        "rounds": ROUNDS,
    }


def _delays(writer: httpx2.Client, asker: httpx2.Client) -> tuple[list[float], list[float]]:
    answer = writer.post(
        PRESETS_PATH, json={"kind": "genetic_configuration", "name": "default", "document": _document(0)}
    )
    preset = answer.raise_for_status().json()
    delays, own = [], []
    for throttle in range(1, ROUNDS + 1):
        preset["document"] = _document(throttle)
        preset = writer.put(f"{PRESETS_PATH}/{preset['id']}", json=preset).raise_for_status().json()
        changed = time.perf_counter()
        while _planned(asker) != throttle:
            pass
        delays.append((time.perf_counter() - changed) * 1000)
        begun = time.perf_counter()
        if _planned(writer) != throttle:
            raise RuntimeError("the worker on which the preset was changed plans with another one")
        own.append((time.perf_counter() - begun) * 1000)
    return delays, own


def _document(throttle: int) -> dict[str, Any]:
    """Make a configuration that leaves one plan: a single step of this throttle."""
    return {
        "throttle_range": [throttle, throttle],
        "max_sequence_length": 1,
        "generations": 1,
        "population_size": 31,
        "timeout_ms": 50,
    }


def _planned(client: httpx2.Client) -> int:
    (goal,) = client.post(PLAN_PATH, json=GAME_STATE).raise_for_status().json()
    throttle: int = goal["throttle"]
    return throttle
