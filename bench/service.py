"""Servers to measure, each a process of its own on a free port of loopback: the sequencer, and bare ones beside it."""

import json
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from api_server.testing import ServiceProcess, clean_environment

ROOT = Path(__file__).parents[1]
PLAN_PATH = "/api/v1/throttle/calculate_throttle_steps"
_IDLE_CPU_S = 0.01
GAME_STATE: Any = json.loads((ROOT / "testing_payloads" / "game_state.json").read_text())


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers, and the process that answers."""

    port: int
    process: psutil.Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that the process, without its children, has used."""
        times = self.process.cpu_times()
        return times.user + times.system

    @property
    def resident_kb(self) -> float:
        """What the process, without its children, holds of the memory."""
        return self.process.memory_info().rss / 1024

    def wait_until_idle(self) -> None:
        """Wait until it is done with those who left, for three seconds at most."""
        for _ in range(30):
            before = self.cpu_s
            time.sleep(0.1)
            if self.cpu_s - before <= _IDLE_CPU_S:
                return


@contextmanager
def running_sequencer(folder: Path, **environment: str) -> Iterator[str]:
    """Yield the URL of a sequencer that answers `/readyz`; its data is kept under `folder`."""
    with sequencer(folder, **environment) as server:
        yield server.url


@contextmanager
def sequencer(folder: Path, **environment: str) -> Iterator[Server]:
    """Run a sequencer by manage.py, with a database of its own; its data is kept under `folder`."""
    manage = ROOT / "throttling_sequencer_fastapi" / "manage.py"
    with _running([manage, "--data", folder / "data"], folder / "service.log", "/readyz", environment) as server:
        yield server


@contextmanager
def bare_server(app: str, folder: Path, **environment: str) -> Iterator[Server]:
    """Run the `module:factory` of a bare app under the same uvicorn, with the same settings, as the sequencer."""
    with _running(
        ["-m", "bench.serve_bare", app], folder / f"{app}.log", "/", {"PYTHONPATH": str(ROOT), **environment}
    ) as server:
        yield server


@contextmanager
def _running(
    program: Sequence[str | Path], output: Path, answering_path: str, environment: dict[str, str]
) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    service = ServiceProcess(
        [sys.executable, *program], clean_environment(UVICORN_PORT=str(port), **environment), output, output.parent
    )
    try:
        service.wait_until_it_answers(f"http://127.0.0.1:{port}{answering_path}")
        yield Server(port, psutil.Process(service.process.pid))
    finally:
        service.stop()
