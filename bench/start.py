"""How long a start takes until the service answers, and its first plan after that. Target: ready ≤ 3 s, warm."""

import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2
from api_server.testing import ServiceProcess, clean_environment

ROOT = Path(__file__).parents[1]
STARTS = 5


def measure() -> dict[str, Any]:
    """Start once to make the data folder, then five times; medians of seconds."""
    game_state = json.loads((ROOT / "testing_payloads" / "game_state.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        cold, _ = _start(Path(folder), game_state)
        warm = [_start(Path(folder), game_state) for _ in range(STARTS)]
    return {
        "ready_cold_s": round(cold, 2),
        "ready_warm_s": [round(ready, 2) for ready, _ in warm],
        "ready_warm_median_s": round(statistics.median(ready for ready, _ in warm), 2),
        "first_plan_median_s": round(statistics.median(plan for _, plan in warm), 2),
        "help_median_s": {name: _help(name) for name in ("api-server", "throttling-sequencer")},
    }


def _start(folder: Path, game_state: Any) -> tuple[float, float]:  # noqa: ANN401 - JSON
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command: list[str | Path] = [
        sys.executable,
        ROOT / "throttling_sequencer_fastapi" / "manage.py",
        "--data",
        folder / "data",
    ]
    begun = time.perf_counter()
    service = ServiceProcess(command, clean_environment(UVICORN_PORT=str(port)), folder / "service.log", folder)
    try:
        service.wait_until_it_answers(f"http://127.0.0.1:{port}/readyz")
        ready = time.perf_counter()
        url = f"http://127.0.0.1:{port}/api/v1/throttle/calculate_throttle_steps"
        httpx2.post(url, json=game_state, timeout=10).raise_for_status()
        return ready - begun, time.perf_counter() - ready
    finally:
        service.stop()


def _help(program: str) -> float:
    taken = []
    for _ in range(STARTS):
        begun = time.perf_counter()
        subprocess.run([Path(sys.executable).with_name(program), "--help"], stdout=subprocess.DEVNULL, check=True)
        taken.append(time.perf_counter() - begun)
    return round(statistics.median(taken), 2)
