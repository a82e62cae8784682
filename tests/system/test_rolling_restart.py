"""Restarts under load: nobody's request fails, every subscriber is told, what was acknowledged is kept."""

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest
from api_server.local.postgres import PostgresAddress
from api_server.testing import fresh_database
from http_proxy import http_proxy
from piccolo_database import piccolo_environment
from sequencer_process import Sequencer, StartSequencer
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

pytestmark = pytest.mark.slow

PLAN = "/api/v1/throttle/calculate_throttle_steps"
QUERY = "query ($state: GameStateInputType!) { calculateThrottleSteps(gameStateInput: $state) { throttle } }"
STEPS = "subscription ($state: GameStateInputType!) { generateSteps(gameStateInput: $state) { throttle } }"
WITHIN_S = 12
LEAVING = {"API_SERVER_DRAIN_DELAY_S": "1.5", "API_SERVER_LEAVE_WITHIN_S": str(WITHIN_S)}
# Short plans, and subscriptions that last longer than any test.
QUICK = {"SEQUENCER_TIMEOUT_MS": "20", "SEQUENCER_GENERATIONS": "2", "SEQUENCER_STEP_INTERVAL_MS": "5000"}
# The load is meant to be there, not to be more than one principal may ask for.
UNLIMITED = {"SEQUENCER_PRINCIPAL_PLANNING_MS": "3600000"}
SUBSCRIBERS = 3


class Load:
    """Clients that ask all the time, until they are stopped; what came of it is in `outcomes` and `told`."""

    def __init__(self, url: str, state: Mapping[str, Any]) -> None:
        self.url = url
        self.state = state
        self.outcomes: Counter[str] = Counter()
        self.failures: list[str] = []
        self.told = 0
        self.subscribed = threading.Semaphore(0)
        self._is_over = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have all clients ask for as long as the context lasts."""
        kinds = [self._rest_kept, self._graphql_kept, self._new_connections, *[self._subscribe] * SUBSCRIBERS]
        with ThreadPoolExecutor(len(kinds)) as threads:
            clients = [threads.submit(kind) for kind in kinds]
            try:
                yield
            finally:
                self._is_over.set()
            for client in clients:
                client.result()

    def _rest_kept(self) -> None:
        with httpx2.Client(base_url=self.url, timeout=20) as client:
            while not self._is_over.is_set():
                self._ask("rest", lambda: client.post(PLAN, json=self.state))

    def _graphql_kept(self) -> None:
        body = {"query": QUERY, "variables": {"state": graphql_state(self.state)}}
        with httpx2.Client(base_url=self.url, timeout=20) as client:
            while not self._is_over.is_set():
                self._ask("graphql", lambda: client.post("/graphql", json=body), lambda answer: "data" in answer.json())

    def _new_connections(self) -> None:
        while not self._is_over.is_set():
            self._ask("new connection", lambda: httpx2.post(self.url + PLAN, json=self.state, timeout=20))

    def _ask(
        self,
        kind: str,
        ask: Callable[[], httpx2.Response],
        is_well: Callable[[httpx2.Response], bool] = lambda _: True,
    ) -> None:
        try:
            answer = ask()
        except httpx2.TransportError as error:
            self.failures.append(f"{kind}: {error!r}")
            return
        if answer.status_code == httpx2.codes.OK and is_well(answer):
            self.outcomes[kind] += 1
        else:
            self.failures.append(f"{kind}: {answer.status_code} {answer.text}")
        time.sleep(0.01)

    def _subscribe(self) -> None:
        while not self._is_over.is_set():
            try:
                self._watch_one()
            except (OSError, TimeoutError, AssertionError, ConnectionClosed) as error:
                self.failures.append(f"subscriber: {error!r}")

    def _watch_one(self) -> None:
        """Subscribe, be served, and stay until the server says farewell, or the test is over."""
        with subscription(self.url, self.state) as socket:
            is_served = False
            while not self._is_over.is_set():
                with suppress(TimeoutError):
                    message = json.loads(socket.recv(0.5))
                    if message["type"] == "next":
                        if not is_served:
                            self.subscribed.release()
                        is_served = True
                        continue
                    assert_farewell(message, socket)
                    self.told += 1
                    return

    def wait_until_subscribed(self, number: int = SUBSCRIBERS) -> None:
        """Wait until so many more subscriptions have brought something."""
        for _ in range(number):
            assert self.subscribed.acquire(timeout=30), self.failures


def graphql_state(state: Mapping[str, Any]) -> dict[str, Any]:
    return {"playerUnits": state["player_units"], "enemyUnits": state["enemy_units"]}


@contextmanager
def subscription(url: str, state: Mapping[str, Any]) -> Iterator[ClientConnection]:
    with connect(f"{url.replace('http', 'ws')}/graphql", subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
        socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(socket.recv(10)) == {"type": "connection_ack"}
        payload = {"query": STEPS, "variables": {"state": graphql_state(state)}}
        socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        yield socket


def assert_farewell(message: Mapping[str, Any], socket: ClientConnection) -> None:
    """Check that this is what a subscriber is told by a server that leaves, and that the socket is closed then."""
    assert message["type"] == "error", message
    assert message["payload"][0]["extensions"]["code"] == "SERVER_DRAINING", message
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


def leave(sequencer: Sequencer, signal_number: signal.Signals = signal.SIGTERM) -> None:
    """End it in good order, in time."""
    began = time.monotonic()
    sequencer.service.send(signal_number)
    assert sequencer.service.wait() == 0, sequencer.service.log
    assert time.monotonic() - began < WITHIN_S
    assert "Traceback" not in sequencer.service.log


def test_two_services_are_restarted_one_after_the_other_and_nobody_misses_anything(
    start_sequencer: StartSequencer,
    in_memory: dict[str, str],
    game_state: dict[str, Any],
    tmp_path: Path,
    unused_tcp_port_factory: Callable[[], int],
) -> None:
    """One of two workers, which are first replaced one by one, and one of a single process."""
    ports = unused_tcp_port_factory(), unused_tcp_port_factory()
    variables = {**in_memory, **LEAVING, **QUICK, **UNLIMITED}
    started = [
        start_sequencer(**variables, UVICORN_PORT=str(port), UVICORN_WORKERS=workers)
        for port, workers in zip(ports, ("2", "1"), strict=True)
    ]
    proxy_ports = {"port": unused_tcp_port_factory(), "stats": unused_tcp_port_factory()}
    with http_proxy(tmp_path, **proxy_ports, services=ports) as proxy:
        proxy.wait_until_all_are_up()
        load = Load(proxy.url, game_state)
        with load.running():
            load.wait_until_subscribed()
            replace_workers(started[0])
            assert proxy.states() == {"a": "UP", "b": "UP"}
            for sequencer, port in zip(started, ports, strict=True):
                leave(sequencer)
                start_sequencer(**variables, UVICORN_PORT=str(port))
                proxy.wait_until_all_are_up()
            # Whoever was told is served again.
            load.wait_until_subscribed(load.told)
    assert load.failures == []
    assert min(load.outcomes[kind] for kind in ("rest", "graphql", "new connection")) > 20, load.outcomes
    # Whoever was not on the first that left was on the second.
    assert load.told >= SUBSCRIBERS


def replace_workers(sequencer: Sequencer) -> None:
    sequencer.service.send(signal.SIGHUP)
    deadline = time.monotonic() + 60
    while sequencer.service.log.count("worker replaced") < 2:
        assert time.monotonic() < deadline, sequencer.service.log
        time.sleep(0.1)


def test_what_was_acknowledged_before_the_end_is_in_the_table(
    start_sequencer: StartSequencer, postgres: PostgresAddress, game_state: dict[str, Any]
) -> None:
    with ExitStack() as stack:
        database = stack.enter_context(fresh_database(postgres))
        variables = {**piccolo_environment(database), "PICCOLO_DB_RUN_MIGRATIONS": "true", **LEAVING, **QUICK}
        sequencer = start_sequencer(**variables, **UNLIMITED)
        storing = stack.enter_context(ThreadPoolExecutor(4))
        sockets = [stack.enter_context(subscription(sequencer.url, game_state)) for _ in range(SUBSCRIBERS)]
        for socket in sockets:
            assert json.loads(socket.recv(10))["type"] == "next"
        writers = [storing.submit(store_until_nobody_listens, sequencer.url, game_state) for _ in range(4)]
        time.sleep(0.5)
        leave(sequencer)
        for socket in sockets:
            while (message := json.loads(socket.recv(10)))["type"] == "next":
                pass
            assert_farewell(message, socket)
        acknowledged = {key for writer in writers for key in writer.result()}
        assert len(acknowledged) > 10
        with psycopg.connect(database.url) as connection:
            rows = connection.execute("SELECT key FROM throttling_sequencer.plan").fetchall()
        assert acknowledged <= {key for (key,) in rows}


def store_until_nobody_listens(url: str, state: Mapping[str, Any]) -> list[str]:
    """Store plans, each on a connection of its own, and return the keys of those that were acknowledged.

    A connection that was taken is answered: the only thing that may happen is that none is taken any more.
    """
    kept: list[str] = []
    while True:
        key = str(uuid4())
        try:
            answer = httpx2.post(f"{url}/api/v1/plans", json=state, headers={"Idempotency-Key": key}, timeout=20)
        except httpx2.ConnectError:
            return kept
        assert answer.status_code == httpx2.codes.CREATED, answer.text
        kept.append(key)
