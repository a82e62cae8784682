"""Presets of real services on one database: what is changed on one worker is what every worker plans with."""

import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest
from api_server.testing import RunningCluster
from piccolo_database import piccolo_environment
from psycopg.types.json import Jsonb
from sequencer_process import Sequencer, StartSequencer

PRESETS = "/api/v1/presets"
UNIT = {"coordinate": {"x": 0, "y": 0}, "speed": 3, "mass": 1, "friction": 0.5}
TARGET = {"coordinate": {"x": 4, "y": 0}, "speed": 0, "mass": 10, "friction": 0}
SCENARIO = {"player_units": [UNIT], "enemy_units": [TARGET]}
THROTTLES = [{"throttle": 5}]

Environment = dict[str, str]


@pytest.fixture
def environment(postgres_cluster: RunningCluster) -> Environment:
    return {
        **piccolo_environment(postgres_cluster.address),
        "PICCOLO_DB_RUN_MIGRATIONS": "true",
        "SEQUENCER_THROTTLE_RANGE": "1,1",
        "SEQUENCER_MAX_SEQUENCE_LENGTH": "1",
        "SEQUENCER_TIMEOUT_MS": "20",
    }


def configuration(throttle: int) -> dict[str, Any]:
    """A configuration that leaves one plan: a single step of this throttle."""
    return {"throttle_range": [throttle, throttle], "max_sequence_length": 1, "timeout_ms": 20}


def create(sequencer: Sequencer, kind: str, name: str, document: Any, user: str = "alice") -> dict[str, Any]:
    answer = sequencer.client.post(
        PRESETS,
        json={"kind": kind, "name": name, "document": document},
        headers={"Authorization": f"Bearer {user}"},
    )
    assert answer.status_code == 201, answer.text
    preset: dict[str, Any] = answer.json()
    return preset


def change(sequencer: Sequencer, preset: dict[str, Any], document: Any) -> dict[str, Any]:
    answer = sequencer.client.put(f"{PRESETS}/{preset['id']}", json={**preset, "document": document})
    assert answer.status_code == 200, answer.text
    changed: dict[str, Any] = answer.json()
    return changed


def planned(sequencer: Sequencer) -> int:
    answer = sequencer.plan(SCENARIO)
    assert answer.status_code == 200, answer.text
    throttle: int = answer.json()[0]["throttle"]
    return throttle


def seconds_until(sequencer: Sequencer, throttle: int, longest: float = 5.0) -> float:
    begun = time.monotonic()
    while planned(sequencer) != throttle:
        assert time.monotonic() - begun < longest
    return time.monotonic() - begun


def change_unnoticed(cluster: RunningCluster, throttle: int) -> None:
    """Change the default as nobody hears of it, so that only who reads again knows."""
    with psycopg.connect(cluster.address.url) as connection:
        connection.execute(
            "UPDATE api_server.presets SET document = document || %s WHERE name = 'default'",
            [Jsonb({"throttle_range": [throttle, throttle]})],
        )


def listeners(cluster: RunningCluster) -> set[int]:
    with psycopg.connect(cluster.address.url) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'api_server listener'"
        ).fetchall()
    return {pid for (pid,) in rows}


@dataclass
class Workers:
    """Two services on one database."""

    one: Sequencer
    other: Sequencer


@pytest.fixture
def workers(start_sequencer: StartSequencer, environment: Environment) -> Workers:
    return Workers(start_sequencer(**environment), start_sequencer(**environment))


class TestTheDefaultConfiguration:
    @pytest.mark.slow
    def test_is_what_every_worker_plans_with_from_the_next_request_on(self, workers: Workers) -> None:
        assert planned(workers.one) == planned(workers.other) == 1
        preset = create(workers.one, "genetic_configuration", "default", configuration(2))
        for throttle in (3, 4, 5):
            preset = change(workers.one, preset, configuration(throttle))
            assert planned(workers.one) == throttle
            assert seconds_until(workers.other, throttle) < 1
        answer = workers.other.client.delete(
            f"{PRESETS}/{preset['id']}", headers={"If-Match": f'"{preset["version"]}"'}
        )
        assert answer.status_code == 204, answer.text
        assert planned(workers.other) == 1
        assert seconds_until(workers.one, 1) < 1

    @pytest.mark.slow
    def test_is_there_when_a_worker_starts(self, start_sequencer: StartSequencer, environment: Environment) -> None:
        create(start_sequencer(**environment), "genetic_configuration", "default", configuration(2))
        assert planned(start_sequencer(**environment)) == 2

    @pytest.mark.slow
    def test_is_read_again_where_a_listener_lost_its_connection(
        self, workers: Workers, postgres_cluster: RunningCluster
    ) -> None:
        create(workers.one, "genetic_configuration", "default", configuration(2))
        seconds_until(workers.other, 2)
        for throttle in (3, 4):
            change_unnoticed(postgres_cluster, throttle)
            assert planned(workers.one) == planned(workers.other) == throttle - 1
            before = listeners(postgres_cluster)
            assert len(before) == 2
            with psycopg.connect(postgres_cluster.address.url, autocommit=True) as connection:
                connection.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) pid", [list(before)])
            for worker in (workers.one, workers.other):
                # A second until it is connected again at most, and one more.
                assert seconds_until(worker, throttle) < 2
            assert not before & listeners(postgres_cluster)

    @pytest.mark.slow
    def test_is_read_again_where_the_database_was_restarted(
        self, workers: Workers, postgres_cluster: RunningCluster
    ) -> None:
        create(workers.one, "genetic_configuration", "default", configuration(2))
        seconds_until(workers.other, 2)
        change_unnoticed(postgres_cluster, 3)
        postgres_cluster.stop()
        # What is known still holds.
        assert planned(workers.one) == planned(workers.other) == 2
        refused = workers.one.client.get(PRESETS, params={"kind": "scenario"})
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.json()["code"] == "DATABASE_UNAVAILABLE"
        postgres_cluster.start()
        for worker in (workers.one, workers.other):
            assert seconds_until(worker, 3) < 2.5
        assert workers.one.client.get(PRESETS, params={"kind": "scenario"}).status_code == 200

    @pytest.mark.slow
    def test_that_breaks_a_later_rule_is_left_aside(
        self, start_sequencer: StartSequencer, environment: Environment
    ) -> None:
        one = start_sequencer(**environment)
        create(one, "genetic_configuration", "default", configuration(2) | {"timeout_ms": 900})
        other = start_sequencer(**{**environment, "SEQUENCER_MAX_BUDGET_MS": "100"})
        assert planned(other) == 1
        (line,) = [line for line in other.server_log if line["event"] == "default preset is not used"]
        assert line["problems"] == [{"field": "timeout_ms", "rule": "should be a number from 1 to 100"}]


@pytest.fixture(scope="module")
def sequencer(start_shared_sequencer: StartSequencer) -> Sequencer:
    """A service with a database of its own, which manage.py starts."""
    settings = {"SEQUENCER_TIMEOUT_MS": "20", "SEQUENCER_STEP_INTERVAL_MS": "0"}
    return start_shared_sequencer(SEQUENCER_PERSISTENCE="piccolo", **settings)


@pytest.fixture
def scenario(sequencer: Sequencer) -> str:
    return str(create(sequencer, "scenario", f"one step {uuid4()}", SCENARIO)["id"])


def as_user(sequencer: Sequencer, user: str, path: str, **json: Any) -> httpx2.Response:
    return sequencer.client.post(path, json=json, headers={"Authorization": f"Bearer {user}"})


class TestAScenario:
    def test_is_planned_by_its_id_over_rest(self, sequencer: Sequencer, scenario: str) -> None:
        answer = as_user(sequencer, "alice", f"/api/v1/scenarios/{scenario}/calculate_throttle_steps?strategy=optimal")
        assert answer.json() == [{"coordinate": {"x": 4.0, "y": 0.0}, "throttle": 5}]
        planned = as_user(sequencer, "alice", f"/api/v1/scenarios/{scenario}/plan", strategy="optimal")
        sent = sequencer.client.post("/api/v1/throttle/plan", json={**SCENARIO, "strategy": "optimal"})
        assert _apart_from_time(planned) == _apart_from_time(sent)

    def test_is_planned_without_a_body(self, sequencer: Sequencer, scenario: str) -> None:
        answer = sequencer.client.post(f"/api/v1/scenarios/{scenario}/plan", headers={"Authorization": "Bearer alice"})
        assert answer.json()["plans"][0]["throttles"] == [5]

    def test_is_planned_by_its_id_over_graphql(self, sequencer: Sequencer, scenario: str) -> None:
        query = (
            "query($id: UUID!) { calculateScenarioSteps(scenarioId: $id) { throttle } "
            'planScenario(scenarioId: $id, strategy: "optimal") { throttles } }'
        )
        answer = as_user(sequencer, "alice", "/graphql", query=query, variables={"id": scenario})
        assert answer.json() == {"data": {"calculateScenarioSteps": THROTTLES, "planScenario": [{"throttles": [5]}]}}

    def test_is_planned_by_its_id_live(self, sequencer: Sequencer, scenario: str) -> None:
        query = "subscription($id: UUID!) { generateScenarioSteps(scenarioId: $id) { throttle } }"
        with sequencer.client.stream(
            "POST",
            "/graphql",
            json={"query": query, "variables": {"id": scenario}},
            headers={"Authorization": "Bearer alice", "Accept": "text/event-stream"},
        ) as answer:
            text = answer.read().decode()
        assert 'data: {"data":{"generateScenarioSteps":{"throttle":5}}}' in text

    @pytest.mark.parametrize("who", ["bob", "alice"])
    def test_that_is_somebody_elses_or_none_is_not_found(self, sequencer: Sequencer, scenario: str, who: str) -> None:
        wanted = scenario if who == "bob" else str(uuid4())
        for path in ("calculate_throttle_steps", "plan"):
            answer = as_user(sequencer, who, f"/api/v1/scenarios/{wanted}/{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
        query = "query($id: UUID!) { planScenario(scenarioId: $id) { throttles } }"
        answer = as_user(sequencer, who, "/graphql", query=query, variables={"id": wanted})
        assert answer.json()["errors"][0]["extensions"]["code"] == "NOT_FOUND"

    def test_is_a_preset_of_that_kind(self, sequencer: Sequencer) -> None:
        other = create(sequencer, "genetic_configuration", f"mine {uuid4()}", {})["id"]
        answer = as_user(sequencer, "alice", f"/api/v1/scenarios/{other}/plan")
        assert (answer.status_code, answer.json()["detail"]) == (404, f"there is no scenario {other}")

    def test_has_an_id(self, sequencer: Sequencer) -> None:
        answer = as_user(sequencer, "alice", "/api/v1/scenarios/first/plan")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "scenario_id"


@pytest.mark.parametrize(
    ("kind", "document", "field"),
    [
        ("scenario", {**SCENARIO, "player_units": [{**UNIT, "mass": 0}]}, "document.player_units[0].mass"),
        ("scenario", {**SCENARIO, "enemy_units": []}, "document.enemy_units"),
        ("genetic_configuration", {"throttle_range": [5, 3]}, "document.throttle_range"),
        ("genetic_configuration", {"speed": 1}, "document.speed"),
        ("plan", {}, "kind"),
    ],
)
def test_a_bad_document_is_refused_when_it_is_written(
    sequencer: Sequencer, kind: str, document: Any, field: str
) -> None:
    answer = sequencer.client.post(PRESETS, json={"kind": kind, "name": "bad", "document": document})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field


@pytest.mark.slow
def test_where_nothing_is_kept_there_are_no_presets(start_sequencer: StartSequencer, in_memory: Environment) -> None:
    sequencer = start_sequencer(**in_memory)
    assert sequencer.client.get(PRESETS).status_code == 404
    paths = sequencer.client.get("/openapi.json").json()["paths"]
    assert not [path for path in paths if "preset" in path or "scenario" in path]
    fields = sequencer.graphql("{ __schema { queryType { fields { name } } } }")["data"]["__schema"]["queryType"]
    assert not [field for field in fields["fields"] if "reset" in field["name"] or "cenario" in field["name"]]


def _apart_from_time(answer: httpx2.Response) -> Any:
    plans = answer.json()["plans"]
    return [{name: value for name, value in plan.items() if name != "elapsed_ms"} for plan in plans]
