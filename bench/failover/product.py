"""The sequencer as a process over a lab, put to the test by those who use it."""

import asyncio
import json
import re
import socket
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import psycopg
from api_server.local.lab import Lab, Route
from api_server.local.postgres import PostgresAddress
from api_server.testing import ServiceProcess, clean_environment
from api_server.testing.failover import Clients, NoAnswerError, OpenClients, Reply, Row, Run
from throttling_sequencer.core.lab_environment import lab_environment
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

ROOT = Path(__file__).parents[2]
SEQUENCER = "throttling_sequencer.app:SEQUENCER"
DO_NOTHING = "bench.failover.do_nothing:DO_NOTHING"

PLANS = "/api/v1/plans"
_STATELESS = "/api/v1/throttle/plan"
_UNIT = {"coordinate": {"x": 0.0, "y": 0.0}, "speed": 0.0, "mass": 10.0, "friction": 0.01}
_GOAL = {**_UNIT, "coordinate": {"x": 120.0, "y": 0.0}}
# Proven at once, and admitted by so few milliseconds that planning is never what makes a request wait.
_BODY = {"player_units": [_UNIT], "enemy_units": [_GOAL], "strategy": "optimal", "budget_ms": 20}
_STATE = {"playerUnits": [_UNIT], "enemyUnits": [_GOAL]}
_STORE = """mutation Store($state: GameStateInputType!, $key: String!) {
  storePlan(gameStateInput: $state, idempotencyKey: $key, strategy: "optimal", budgetMs: 20) { id }
}"""
_GOALS = "subscription Goals($state: GameStateInputType!) { generateSteps(gameStateInput: $state) { throttle } }"
_WARM_UPS = 40
_LOGGED_WITHIN_S = 10.0
_LOGGED_AFTER_MS = 5_000

# Longer than the service may take, so that only a hang is one.
_CLIENT_TIMEOUT_S = 15.0
_BYSTANDER_TIMEOUT_S = 5.0
_INTERVAL_S = 0.1

# What a service that cannot store may answer, each with a time to ask again.
STORAGE_ERRORS = frozenset({"STORAGE_UNAVAILABLE", "OUTCOME_UNKNOWN"})


def environment_of(lab: Lab, route: Route, app: str = SEQUENCER) -> dict[str, str]:
    """Return the variables of a sequencer that reaches the lab's database by this route."""
    direct = lab.addresses("direct")
    first = direct[0]
    hosts = ",".join(f"{address.host}:{address.port}" for address in direct)
    login = f"{first.user}:{first.password}"
    return {
        "API_SERVER_APP": app,
        "API_SERVER_DATABASE_URL": f"postgresql://{login}@{hosts}/{first.database}?target_session_attrs=read-write",
        **lab_environment(lab.addresses(route), route == "pgbouncer"),
        "PICCOLO_DB_RUN_MIGRATIONS": "true",
        # Each holds a connection for as long as its commit waits.
        "PICCOLO_DB_POOL_SIZE": "20",
        "SEQUENCER_PATH_FINDER": "optimal",
        "PYTHONPATH": str(ROOT),
    }


class Product:
    """A sequencer that runs, as the checker sees it."""

    deadline_s = 10.0
    given_back = frozenset({"advisory locks", "used slots"})

    def __init__(self, service: ServiceProcess, url: str) -> None:
        self.service, self.url = service, url
        self._opened = 0
        self._process = psutil.Process(service.process.pid)

    @property
    def clients(self) -> OpenClients:
        return self._clients

    @property
    def log(self) -> list[dict[str, Any]]:
        """The structured lines of the log so far."""
        return [json.loads(line) for line in self.service.log.splitlines() if line.startswith("{")]

    def warm_up(self) -> None:
        """Have every connection of the pool, every import and every process of the lane made."""
        asyncio.run(self._warm_up())

    def rows(self, address: PostgresAddress) -> Iterable[Row]:
        with psycopg.connect(address.url, connect_timeout=5) as connection:
            query = "SELECT key, id::text FROM throttling_sequencer.plan WHERE NOT starts_with(key, 'warm-up-')"
            kept = connection.execute(query).fetchall()
        return [Row(key, plan_id) for key, plan_id in kept]

    def residue(self, address: PostgresAddress) -> Mapping[str, int]:
        with psycopg.connect(address.url, connect_timeout=5) as connection:
            found = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
        assert found is not None
        metrics = httpx2.get(f"{self.url}/metrics", timeout=5).text
        held = _held(metrics)
        return {
            "advisory locks": found[0],
            # The pool makes its connections when it needs them, up to its size.
            "descriptors": self._process.num_fds() - held["idle slots"] - held["used slots"],
            "tasks": held["tasks"],
            "used slots": held["used slots"],
        }

    def complaints(self, run: Run, address: PostgresAddress) -> Iterable[str]:
        """Tell whether it was another process in the end, or something is missing in its request log."""
        if self.service.process.poll() is not None:
            yield f"the service ended with {self.service.process.returncode}"
        if "Traceback" in self.service.log:
            yield "the service's log holds a traceback"
        failed = {request.status for request in run.ledger.requests if request.face == "rest" and request.code}
        if wrong := failed - {httpx2.codes.SERVICE_UNAVAILABLE}:
            yield f"REST answered by {sorted(map(str, wrong))} instead of 503"
        if _is_logged(run):
            yield from self._missing_in_the_request_log(run, address)

    @asynccontextmanager
    async def _clients(self) -> AsyncIterator[Clients]:
        unlimited = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
        async with httpx2.AsyncClient(base_url=self.url, timeout=_CLIENT_TIMEOUT_S, limits=unlimited) as client:
            self._opened += 1
            faces = _Faces(client, f"Store{self._opened}")
            yield Clients(
                {"rest": faces.rest, "graphql": faces.graphql},
                {"livez": faces.livez, "stateless plans": faces.stateless, "subscription": self._subscription},
            )

    def _missing_in_the_request_log(self, run: Run, address: PostgresAddress) -> Iterator[str]:
        """Compare the operations that were answered with those that the request log has, when it has had its time."""
        answered = sum(request.face == "graphql" and request.status is not None for request in run.ledger.requests)
        deadline = time.monotonic() + _LOGGED_WITHIN_S
        while (logged := _logged(address, f"Store{self._opened}")) < answered:
            if time.monotonic() > deadline:
                yield f"the request log has {logged} of {answered} operations"
                return
            time.sleep(0.1)

    async def _warm_up(self) -> None:
        async with self._clients() as clients:
            for send in clients.faces.values():
                replies = await asyncio.gather(*(send(f"warm-up-{number}") for number in range(_WARM_UPS)))
                if failed := [reply for reply in replies if reply.outcome != "acknowledged"]:
                    raise RuntimeError(f"the service keeps no plans: {failed[0]}")

    async def _subscription(self) -> AsyncGenerator[None]:
        """Watch goals of a unit, again and again."""
        protocol = Subprotocol("graphql-transport-ws")
        try:
            async with connect(f"{self.url.replace('http', 'ws', 1)}/graphql", subprotocols=[protocol]) as socket:
                await socket.send(json.dumps({"type": "connection_init"}))
                subscribe = {"query": _GOALS, "variables": {"state": _STATE}}
                while True:
                    async with asyncio.timeout(_BYSTANDER_TIMEOUT_S):
                        text = await socket.recv()
                    match json.loads(text):
                        case {"type": "connection_ack" | "complete"}:
                            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": subscribe}))
                        case {"type": "next", "payload": {"data": dict()}}:
                            yield
                        case {"type": "ping"}:
                            await socket.send(json.dumps({"type": "pong"}))
                        case other:
                            raise NoAnswerError(json.dumps(other)[:100])
        except WebSocketException as error:
            raise NoAnswerError(type(error).__name__) from error


def _is_logged(run: Run) -> bool:
    """Tell whether the request log has to be whole: it is an observation, and need not outlast every outage."""
    is_short = all(window < _LOGGED_AFTER_MS for window in run.verdict.windows_ms)
    return is_short and run.scenario.synchronous and not run.scenario.expected.loses


def _logged(address: PostgresAddress, operation: str) -> int:
    with psycopg.connect(address.url, connect_timeout=5) as connection:
        found = connection.execute(
            "SELECT count(*) FROM throttling_sequencer.gql_request_info WHERE operation_name = %s", (operation,)
        ).fetchone()
    assert found is not None
    number: int = found[0]
    return number


def _held(metrics: str) -> dict[str, int]:
    """Return what the service says of itself: its tasks, and its connections."""
    names = {
        "tasks": "asyncio_tasks",
        "used slots": 'database_pool_connections{state="used"}',
        "idle slots": 'database_pool_connections{state="idle"}',
    }
    found = {says: re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE) for says, name in names.items()}
    missing = [says for says, number in found.items() if number is None]
    assert not missing, f"/metrics says nothing of {missing}"
    return {says: int(float(number[1])) for says, number in found.items() if number is not None}


class _Faces:
    """How the sequencer is asked, and what its answers promise."""

    def __init__(self, client: httpx2.AsyncClient, operation: str) -> None:
        self._client = client
        self._query = _STORE.replace("Store", operation, 1)

    async def rest(self, key: str) -> Reply:
        answer = await self._post(PLANS, _BODY, {"Idempotency-Key": f'"{key}"'})
        if answer.status_code == httpx2.codes.CREATED:
            return Reply("acknowledged", answer.status_code, None, answer.json()["id"])
        return _failed(answer.status_code, _json(answer).get("code"), answer.headers.get("Retry-After"))

    async def graphql(self, key: str) -> Reply:
        answer = await self._post("/graphql", {"query": self._query, "variables": {"state": _STATE, "key": key}})
        match _json(answer):
            case {"data": {"storePlan": {"id": str(plan_id)}}}:
                return Reply("acknowledged", answer.status_code, None, plan_id)
            case {"errors": [{"extensions": {"code": str(code), **more}}, *_]}:
                return _failed(answer.status_code, code, more.get("retryAfter"))
        return _failed(answer.status_code, None, None)

    async def stateless(self) -> AsyncGenerator[None]:
        while True:
            answer = await self._post(_STATELESS, _BODY)
            if answer.status_code != httpx2.codes.OK:
                raise NoAnswerError(f"HTTP {answer.status_code}")
            yield
            await asyncio.sleep(_INTERVAL_S)

    async def livez(self) -> AsyncGenerator[None]:
        while True:
            try:
                answer = await self._client.get("/livez")
            except httpx2.HTTPError as error:
                raise NoAnswerError(type(error).__name__) from error
            if answer.status_code != httpx2.codes.OK:
                raise NoAnswerError(f"HTTP {answer.status_code}")
            yield
            await asyncio.sleep(_INTERVAL_S)

    async def _post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        try:
            return await self._client.post(path, json=body, headers=headers)
        except httpx2.HTTPError as error:
            raise NoAnswerError(type(error).__name__) from error


def _failed(status: int, code: str | None, retry_after_s: object) -> Reply:
    """Judge an answer that is no plan: definite where the service says that nothing was kept."""
    known = {"STORAGE_UNAVAILABLE", "LANE_FULL", "LANE_BROKEN", "DEADLINE_EXCEEDED"}
    is_definite = code in known or (code != "OUTCOME_UNKNOWN" and 400 <= status < 500)  # noqa: PLR2004 - HTTP's classes
    again_s = None if retry_after_s is None else float(str(retry_after_s))
    return Reply("refused" if is_definite else "unknown", status, code or f"HTTP {status}", retry_after_s=again_s)


def _json(answer: httpx2.Response) -> dict[str, Any]:
    try:
        document = answer.json()
    except json.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


@contextmanager
def running_product(lab: Lab, route: Route, folder: Path, app: str = SEQUENCER) -> Iterator[Product]:
    """Run the sequencer over a lab's database; what it writes lies in `folder`."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = clean_environment(UVICORN_PORT=str(port), **environment_of(lab, route, app))
    program = Path(sys.executable).with_name("api-server")
    service = ServiceProcess([program], environment, folder / "service.log", folder)
    try:
        url = f"http://127.0.0.1:{port}"
        service.wait_until_it_answers(f"{url}/livez")
        product = Product(service, url)
        product.warm_up()
        yield product
        if (status := service.stop()) != 0:
            raise RuntimeError(f"the service ended with {status}:\n{service.log[-2000:]}")
    finally:
        service.stop()
