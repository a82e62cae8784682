"""The product as its users run it: a real process, spoken to over real sockets. A pytest plugin."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from api_server.testing import ServiceProcess, StartService, clean_environment

ROOT = Path(__file__).parents[2]
# In production, too, where nobody is sent elsewhere first.
_LEAVES_AT_ONCE = ("API_SERVER_DRAIN_DELAY_S", "0")
MANAGE = ROOT / "throttling_sequencer_fastapi" / "manage.py"


@dataclass
class Sequencer:
    """A sequencer that runs, and how to speak to it."""

    service: ServiceProcess
    url: str
    data: Path
    client: httpx2.Client = field(repr=False)

    @property
    def server_log(self) -> list[dict[str, Any]]:
        """The structured lines of the log so far."""
        return [json.loads(line) for line in self.service.log.splitlines() if line.startswith("{")]

    def plan(self, game_state: Any, **query: str | int) -> httpx2.Response:
        path = "/api/v1/throttle/calculate_throttle_steps"
        return self.client.post(path, params=query, json=game_state)

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = self.client.post("/graphql", json={"query": query, "variables": variables})
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document


StartSequencer = Callable[..., Sequencer]


@pytest.fixture
def start_sequencer(
    start_service: StartService, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> Iterator[StartSequencer]:
    """Give a function that starts the sequencer by manage.py, from a folder that is not the repository's."""
    clients: list[httpx2.Client] = []

    def start(*arguments: str, wait: bool = True, data: Path = tmp_path / "data", **environment: str) -> Sequencer:
        port = environment.setdefault("UVICORN_PORT", str(unused_tcp_port_factory()))
        environment.setdefault(*_LEAVES_AT_ONCE)
        command = [sys.executable, MANAGE, "--data", data, *arguments]
        service = start_service(command, **environment)
        url = f"http://127.0.0.1:{port}"
        clients.append(httpx2.Client(base_url=url, timeout=30))
        if wait:
            service.wait_until_it_answers(f"{url}/livez")
        return Sequencer(service, url, data, clients[-1])

    yield start
    for client in clients:
        client.close()


@contextmanager
def running_sequencer(folder: Path, port: int, *arguments: str, **environment: str) -> Iterator[Sequencer]:
    """Run one sequencer for as long as several tests share it; what it writes lies in `folder`."""
    command: list[str | Path] = [sys.executable, MANAGE, "--data", folder / "data", *arguments]
    environment.setdefault(*_LEAVES_AT_ONCE)
    variables = clean_environment(UVICORN_PORT=str(port), **environment)
    service = ServiceProcess(command, variables, folder / "service.log", folder)
    try:
        url = f"http://127.0.0.1:{port}"
        service.wait_until_it_answers(f"{url}/livez")
        with httpx2.Client(base_url=url, timeout=30) as client:
            yield Sequencer(service, url, folder / "data", client)
    finally:
        service.stop()


@pytest.fixture(scope="module")
def start_shared_sequencer(
    tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Callable[[], int]
) -> Iterator[StartSequencer]:
    """Give a function that starts a sequencer for all tests of a module; without a database unless one is named."""
    with ExitStack() as running:

        def start(**environment: str) -> Sequencer:
            folder = tmp_path_factory.mktemp("sequencer")
            if environment.get("ENV_TYPE") != "production":
                environment = {"SEQUENCER_PERSISTENCE": "memory", **environment}
            return running.enter_context(running_sequencer(folder, unused_tcp_port_factory(), **environment))

        yield start


@pytest.fixture(scope="session")
def game_state() -> dict[str, Any]:
    state: dict[str, Any] = json.loads((ROOT / "testing_payloads" / "game_state.json").read_text())
    return state


@pytest.fixture
def in_memory() -> dict[str, str]:
    """Variables of a service that keeps nothing in a database, so that none is started and none is missed."""
    return {"SEQUENCER_PERSISTENCE": "memory"}


@pytest.fixture
def no_database(unused_tcp_port_factory: Callable[[], int]) -> dict[str, str]:
    """Variables that point at a database which is not there, so that none is started."""
    return {"PICCOLO_DB_HOST": "127.0.0.1", "PICCOLO_DB_PORT": str(unused_tcp_port_factory())}
