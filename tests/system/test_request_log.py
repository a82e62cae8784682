"""The request log of a real service over a real database: each operation once, whatever happens to the database."""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from api_server.testing import RunningCluster
from live_clients import client
from piccolo_database import piccolo_environment
from sequencer_process import Sequencer, StartSequencer

PAGE = """query Log($first: Int!, $after: String) {
  requestLog(first: $first, after: $after) {
    nodes { operationId requestId operationName userId unixTime durationMs outcome }
    pageInfo { endCursor hasNextPage }
  }
}"""
GOALS = "subscription Goals($state: GameStateInputType!) { generateSteps(gameStateInput: $state) { throttle } }"
UNIT = {"coordinate": {"x": 0, "y": 0}, "speed": 0, "mass": 1, "friction": 0}
STATE = {"playerUnits": [UNIT], "enemyUnits": [UNIT]}

Environment = dict[str, str]


@pytest.fixture
def database(postgres_cluster: RunningCluster) -> Environment:
    return {
        **piccolo_environment(postgres_cluster.address),
        "PICCOLO_DB_RUN_MIGRATIONS": "true",
        "SEQUENCER_TIMEOUT_MS": "5",
    }


def rows(cluster: RunningCluster) -> list[dict[str, Any]]:
    with psycopg.connect(cluster.address.url, row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute("SELECT * FROM throttling_sequencer.gql_request_info").fetchall()


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def ask(sequencer: Sequencer, names: Sequence[str], user: str = "alice") -> None:
    """Ask an operation of each of these names, several at once, and see each answered."""
    headers = {"Authorization": f"Bearer {user}"}

    def one(name: str) -> None:
        answer = sequencer.client.post(
            "/graphql", json={"query": f"query {name} {{ version {{ name }} }}"}, headers=headers
        )
        assert "errors" not in answer.json()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one, names))


def logged(sequencer: Sequencer, event: str) -> list[dict[str, Any]]:
    return [line for line in sequencer.server_log if line["event"] == event]


@pytest.mark.slow
def test_a_thousand_operations_are_a_thousand_rows(
    start_sequencer: StartSequencer, database: Environment, postgres_cluster: RunningCluster
) -> None:
    sequencer = start_sequencer(**database)
    ask(sequencer, [f"Name{number}" for number in range(900)])
    url = f"{sequencer.url}/graphql"
    for number in range(100):
        watching = client(("graphql-transport-ws", "graphql-ws", "sse", "sse")[number % 4], Path())
        assert len(list(watching(url, GOALS, {"state": STATE}, authorization="Bearer bob"))) >= 1
    eventually(lambda: len(rows(postgres_cluster)) >= 1000)
    found = rows(postgres_cluster)
    assert len({row["operation_id"] for row in found}) == len(found) == 1000
    assert len({row["request_id"] for row in found}) == 1000
    names = Counter(row["operation_name"] for row in found)
    assert names == {**{f"Name{number}": 1 for number in range(900)}, "Goals": 100}
    assert Counter(row["user_id"] for row in found) == {"alice": 900, "bob": 100}
    assert {row["outcome"] for row in found} == {"success"}
    assert all(0 < row["duration_ms"] < 10_000 and abs(row["unix_time"] - time.time()) < 120 for row in found)
    assert "Traceback" not in sequencer.service.log


def test_users_page_through_their_own_rows(start_sequencer: StartSequencer, database: Environment) -> None:
    sequencer = start_sequencer(**database)
    ask(sequencer, [f"A{number}" for number in range(25)], user="alice")
    ask(sequencer, [f"B{number}" for number in range(25)], user="bob")

    def page(user: str, first: int, after: str | None) -> Any:
        body = {"query": PAGE, "variables": {"first": first, "after": after}}
        answer = sequencer.client.post("/graphql", json=body, headers={"Authorization": f"Bearer {user}"})
        return answer.json()["data"]["requestLog"]

    eventually(lambda: len(page("carol", 1, None)["nodes"]) == 1)  # carol's own question came after all others
    seen: list[dict[str, Any]] = []
    info: dict[str, Any] = {"endCursor": None, "hasNextPage": True}
    while info["hasNextPage"]:
        part = page("alice", 7, info["endCursor"])
        seen, info = seen + part["nodes"], part["pageInfo"]
    asked = [node for node in seen if node["operationName"] != "Log"]
    assert {node["operationName"] for node in asked} == {f"A{number}" for number in range(25)}
    assert len(asked) == 25
    assert {node["userId"] for node in seen} == {"alice"}
    assert [node["operationId"] for node in seen] == sorted((node["operationId"] for node in seen), reverse=True)
    broken = sequencer.graphql(PAGE, first=101)["errors"][0]["extensions"]
    assert broken == {"code": "INVALID_VALUE", "field": "first", "rule": "should be a number from 1 to 100"}
    broken = sequencer.graphql(PAGE, first=1, after="nonsense")["errors"][0]["extensions"]
    assert broken["field"] == "after"


@pytest.mark.slow
def test_each_way_to_end_has_its_name(
    start_sequencer: StartSequencer, database: Environment, postgres_cluster: RunningCluster
) -> None:
    # Time enough for a plan of several goals, whoever else uses the machine.
    settings = {"SEQUENCER_STEP_INTERVAL_MS": "60000", "SEQUENCER_TIMEOUT_MS": "200"}
    sequencer = start_sequencer(**{**database, **settings})
    bad_state = {**STATE, "playerUnits": []}
    sequencer.graphql(GOALS.replace("subscription Goals", "query Invalid"), state=STATE)
    sequencer.graphql("query Unparsable {")
    plan = "query Broken($state: GameStateInputType!) { calculateThrottleSteps(gameStateInput: $state) { throttle } }"
    sequencer.graphql(plan, state=bad_state)
    two = {"query": "query First { version { name } } query Second { version { version } }", "operationName": "Second"}
    sequencer.client.post("/graphql", json=two)
    sequencer.client.post("/graphql", json={**two, "operationName": "Third"})
    sequencer.client.post("/graphql", json={"query": "{ version { name } }"})
    moving = {**STATE, "enemyUnits": [{**UNIT, "coordinate": {"x": 5000, "y": 0}}]}
    for name in ("graphql-transport-ws", "graphql-ws", "sse"):
        watching = client(name, Path())(
            f"{sequencer.url}/graphql", GOALS.replace("Goals", f"Left_{name[-5:].replace('-', '')}"), {"state": moving}
        )
        next(watching)
        watching.close()
    eventually(lambda: len(rows(postgres_cluster)) >= 9)
    ended = {(row["operation_name"], row["outcome"]) for row in rows(postgres_cluster)}
    assert ended == {
        ("Invalid", "refused"),
        (None, "refused"),
        ("Broken", "failed"),
        ("Second", "success"),
        (None, "success"),
        ("Left_rtws", "cancelled"),
        ("Left_qlws", "cancelled"),
        ("Left_sse", "cancelled"),
    }


@pytest.mark.parametrize(
    "name", ["graphql-transport-ws", *(pytest.param(name, marks=pytest.mark.slow) for name in ("graphql-ws", "sse"))]
)
def test_what_a_stream_refuses_is_refused_and_what_fails_has_failed(
    start_sequencer: StartSequencer, in_memory: Environment, name: str
) -> None:
    sequencer = start_sequencer(**in_memory)
    watch, url = client(name, Path()), f"{sequencer.url}/graphql"
    unknown = "subscription Unknown { generateStops { throttle } }"
    assert "errors" in next(iter(watch(url, unknown))).result
    assert "errors" in next(iter(watch(url, GOALS, {"state": {**STATE, "playerUnits": []}}))).result

    def outcomes() -> set[tuple[str, str]]:
        nodes = sequencer.graphql(PAGE, first=100)["data"]["requestLog"]["nodes"]
        return {(node["operationName"], node["outcome"]) for node in nodes if node["operationName"] != "Log"}

    eventually(lambda: len(outcomes()) == 2)
    assert outcomes() == {("Unknown", "REFUSED"), ("Goals", "FAILED")}


@pytest.mark.slow
def test_a_password_that_is_wrong_for_a_while_loses_no_row(
    start_sequencer: StartSequencer, database: Environment, postgres_cluster: RunningCluster
) -> None:
    def be_known_by(password: str) -> None:
        with psycopg.connect(postgres_cluster.address.url, autocommit=True) as connection:
            connection.execute(f"ALTER ROLE keeper LOGIN SUPERUSER PASSWORD '{password}'")

    with psycopg.connect(postgres_cluster.address.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE keeper")
    be_known_by("right")
    start_sequencer(**database).service.stop()  # migrates
    be_known_by("another")
    keeper = {"PICCOLO_DB_USER": "keeper", "PICCOLO_DB_PASSWORD": "right"}
    sequencer = start_sequencer(**{**database, **keeper, "PICCOLO_DB_RUN_MIGRATIONS": "false"})
    ask(sequencer, ["Asked"] * 30)
    eventually(lambda: len(logged(sequencer, "request log waits for its storage")) == 1)
    be_known_by("right")
    eventually(lambda: len(rows(postgres_cluster)) == 30)
    assert "Traceback" not in sequencer.service.log


@pytest.mark.slow
def test_a_database_that_is_away_delays_no_plan_and_loses_no_row(
    start_sequencer: StartSequencer, database: Environment, postgres_cluster: RunningCluster
) -> None:
    sequencer = start_sequencer(**database)
    ask(sequencer, ["Before"] * 50)
    here = {"player_units": [UNIT], "enemy_units": [UNIT]}
    postgres_cluster.stop()
    asked, slowest, until = 0, 0.0, time.monotonic() + 5
    while time.monotonic() < until:
        begun = time.monotonic()
        assert sequencer.plan(here).status_code == 200
        slowest = max(slowest, time.monotonic() - begun)
        ask(sequencer, ["Away"])
        asked += 1
    assert slowest < 1
    postgres_cluster.start()
    ask(sequencer, ["After"] * 50)
    with suppress(psycopg.OperationalError):
        eventually(lambda: len(rows(postgres_cluster)) >= 100 + asked)
    found = rows(postgres_cluster)
    assert Counter(row["operation_name"] for row in found) == {"Before": 50, "Away": asked, "After": 50}
    assert len({row["operation_id"] for row in found}) == len(found)
    assert len(logged(sequencer, "request log waits for its storage")) == 1
    (resumed,) = logged(sequencer, "request log is written again")
    assert resumed["dropped"] == 0
    assert "Traceback" not in sequencer.service.log


@pytest.mark.slow
def test_a_full_queue_drops_and_counts_in_one_line(
    start_sequencer: StartSequencer, database: Environment, postgres_cluster: RunningCluster
) -> None:
    sequencer = start_sequencer(**database, SEQUENCER_REQUEST_LOG_WAITING="20")
    postgres_cluster.stop()
    ask(sequencer, ["Asked"] * 100)
    postgres_cluster.start()
    eventually(lambda: len(logged(sequencer, "request log is written again")) == 1)
    (full,) = logged(sequencer, "request log is full and drops requests")
    assert full["capacity"] == 20
    (resumed,) = logged(sequencer, "request log is written again")
    assert resumed["dropped"] == 80
    assert len(rows(postgres_cluster)) == 20


@pytest.mark.slow
def test_a_service_that_is_stopped_writes_what_waits_first(
    start_sequencer: StartSequencer, database: Environment, postgres_cluster: RunningCluster
) -> None:
    sequencer = start_sequencer(**database)
    ask(sequencer, ["Last"] * 300)
    assert sequencer.service.stop() == 0
    assert len(rows(postgres_cluster)) == 300


@pytest.mark.slow
def test_rows_that_are_older_than_they_are_kept_go(
    start_sequencer: StartSequencer, database: Environment, postgres_cluster: RunningCluster
) -> None:
    first = start_sequencer(**database)
    ask(first, ["Old", "New"])
    assert first.service.stop() == 0
    with psycopg.connect(postgres_cluster.address.url) as connection:
        aged = (
            "UPDATE throttling_sequencer.gql_request_info SET unix_time = unix_time - %s WHERE operation_name = 'Old'"
        )
        connection.execute(aged, (3 * 86_400,))
    start_sequencer(**database, SEQUENCER_REQUEST_LOG_DAYS="2")
    eventually(lambda: [row["operation_name"] for row in rows(postgres_cluster)] == ["New"])


@pytest.mark.slow
def test_two_services_that_start_together_migrate_once(
    start_sequencer: StartSequencer, database: Environment, postgres_cluster: RunningCluster
) -> None:
    both = [start_sequencer(**database, wait=False, UVICORN_WORKERS=workers) for workers in ("1", "2")]
    for sequencer in both:
        sequencer.service.wait_until_it_answers(f"{sequencer.url}/livez")
    applied = [line["backend"] for sequencer in both for line in logged(sequencer, "migrations applied")]
    assert applied == ["alembic", "piccolo"]
    for sequencer in both:
        ask(sequencer, ["Hello"])
    eventually(lambda: len(rows(postgres_cluster)) == 2)


@pytest.mark.slow
def test_a_service_that_starts_without_its_database_migrates_when_it_is_there(
    start_sequencer: StartSequencer, database: Environment, postgres_cluster: RunningCluster
) -> None:
    postgres_cluster.stop()
    sequencer = start_sequencer(**database)
    here = {"player_units": [UNIT], "enemy_units": [UNIT]}
    assert sequencer.plan(here).status_code == 200
    ask(sequencer, ["Early"] * 10)
    postgres_cluster.start()
    eventually(lambda: len(logged(sequencer, "migrations applied")) == 2)
    eventually(lambda: len(rows(postgres_cluster)) == 10)
    assert len(logged(sequencer, "migrations wait for the database")) == 1
    assert "Traceback" not in sequencer.service.log


@pytest.mark.slow
def test_a_database_that_nobody_migrated_is_told_of_once_and_plans_go_on(
    start_sequencer: StartSequencer, database: Environment
) -> None:
    sequencer = start_sequencer(**{**database, "PICCOLO_DB_RUN_MIGRATIONS": "false"})
    ask(sequencer, ["Asked"] * 10)
    eventually(lambda: len(logged(sequencer, "request log waits for its storage")) == 1)
    ask(sequencer, ["Asked"] * 10)
    (waits,) = logged(sequencer, "request log waits for its storage")
    assert "gql_request_info" in waits["reason"] or "throttling_sequencer" in waits["reason"]
    broken = sequencer.graphql(PAGE, first=1)["errors"][0]["extensions"]
    assert broken == {"code": "STORAGE_UNAVAILABLE", "retryAfter": 1}


@pytest.mark.slow
def test_a_log_in_memory_is_the_process_s_own(start_sequencer: StartSequencer, in_memory: Environment) -> None:
    sequencer = start_sequencer(**in_memory)
    ask(sequencer, ["Kept"], user="developer")
    eventually(lambda: "Kept" in json.dumps(sequencer.graphql(PAGE, first=10)))


def test_a_production_does_not_migrate_by_itself(start_sequencer: StartSequencer, database: Environment) -> None:
    sequencer = start_sequencer(**database, ENV_TYPE="production", wait=False)
    assert sequencer.service.wait() == 2
    assert "PICCOLO_DB_RUN_MIGRATIONS" in sequencer.service.log
    with pytest.raises(httpx2.TransportError):
        sequencer.client.get("/livez")
