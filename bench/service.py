"""A sequencer to measure: started by manage.py on a free port of loopback, and stopped."""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from api_server.testing import ServiceProcess, clean_environment

ROOT = Path(__file__).parents[1]
PLAN_PATH = "/api/v1/throttle/calculate_throttle_steps"
GAME_STATE: Any = json.loads((ROOT / "testing_payloads" / "game_state.json").read_text())


@contextmanager
def running_sequencer(folder: Path, **environment: str) -> Iterator[str]:
    """Yield the URL of a sequencer that answers `/readyz`; its data is kept under `folder`."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    command: list[str | Path] = [
        sys.executable,
        ROOT / "throttling_sequencer_fastapi" / "manage.py",
        "--data",
        folder / "data",
    ]
    service = ServiceProcess(
        command, clean_environment(UVICORN_PORT=port, **environment), folder / "service.log", folder
    )
    try:
        service.wait_until_it_answers(f"http://127.0.0.1:{port}/readyz")
        yield f"http://127.0.0.1:{port}"
    finally:
        service.stop()
