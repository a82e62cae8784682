"""Readiness as an operator sees it: a database that is away, comes back and goes again, and nothing is restarted."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx2
import pytest
from api_server.database.alembic_manager import AlembicManager
from api_server.local.postgres import PostgresCluster
from api_server.testing import RunningCluster, StartService, clean_environment
from older_postgres import older_programs
from piccolo_database import piccolo_environment
from sequencer_process import StartSequencer

API_SERVER = Path(sys.executable).with_name("api-server")


@pytest.fixture(params=["newest", pytest.param("older", marks=pytest.mark.slow)])
def cluster(request: pytest.FixtureRequest, tmp_path: Path, unused_tcp_port: int) -> Iterator[RunningCluster]:
    """Give a PostgreSQL of either major version, which a test may stop and start."""
    with older_programs() if request.param == "older" else nullcontext():
        cluster = PostgresCluster(tmp_path / "postgres", lambda text: None, ("fsync=off",), port=unused_tcp_port)
        with cluster.in_use():
            yield RunningCluster(cluster, cluster.address("tests"))


def seconds_until(condition: Callable[[], bool], timeout: float) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout
        time.sleep(0.02)
    return time.monotonic() - began


def check(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [API_SERVER, "check", *arguments],
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.slow
def test_the_foundation_is_ready_exactly_while_its_database_is(
    start_service: StartService, cluster: RunningCluster, unused_tcp_port_factory: Callable[[], int]
) -> None:
    AlembicManager(cluster.address.url).perform_migration()
    cluster.stop()
    url = f"http://127.0.0.1:{(port := unused_tcp_port_factory())}"
    database = {"API_SERVER_DATABASE_URL": cluster.address.url}
    service = start_service([API_SERVER, "--port", str(port)], **database)
    service.wait_until_it_answers(f"{url}/livez")
    with httpx2.Client(base_url=url) as client:

        def is_ready() -> bool:
            answer = client.get("/readyz")
            state = "operational" if answer.status_code == 200 else "error"
            assert answer.json()["state"] == state
            return answer.status_code == 200

        assert client.get("/livez").status_code == 200
        assert not is_ready()
        assert check(**database).returncode == 1

        cluster.start()
        assert seconds_until(is_ready, 10) <= 2
        assert check(**database).returncode == 0

        cluster.stop()
        # The period is five seconds, and what is asked then takes a moment.
        assert seconds_until(lambda: not is_ready(), 15) <= 6
        assert client.get("/livez").status_code == 200
        cluster.start()
        assert seconds_until(is_ready, 10) <= 2
    assert service.process.poll() is None
    assert service.stop() == 0
    assert "Traceback" not in service.log
    # One line for each change, however often it was asked.
    assert service.log.count('"event": "readiness changed"') == 4


@pytest.mark.slow
def test_the_sequencer_plans_without_its_database_and_says_so(
    start_sequencer: StartSequencer, cluster: RunningCluster, game_state: dict[str, Any]
) -> None:
    cluster.stop()
    database = {
        **piccolo_environment(cluster.address),
        "PICCOLO_DB_RUN_MIGRATIONS": "true",
    }
    sequencer = start_sequencer(**database, SEQUENCER_TIMEOUT_MS="50")

    def state() -> str:
        answer = sequencer.client.get("/readyz")
        assert answer.status_code == 200
        told: str = answer.json()["state"]
        return told

    assert state() == "degraded"
    assert sequencer.plan(game_state).status_code == 200
    application = {"API_SERVER_APP": "throttling_sequencer.app:SEQUENCER"}
    degraded = check(**database, **application)
    assert (degraded.returncode, "degraded" in degraded.stderr) == (0, True)
    assert check("--strict", **database, **application).returncode == 1

    cluster.start()
    # The tables are made, and the request log is written again.
    assert seconds_until(lambda: state() == "operational", 20) <= 6
    assert check("--strict", **database, **application).returncode == 0

    cluster.stop()
    assert seconds_until(lambda: state() == "degraded", 15) <= 6
    assert sequencer.plan(game_state).status_code == 200
    assert sequencer.service.process.poll() is None
    assert "Traceback" not in sequencer.service.log


@pytest.mark.slow
def test_what_keeps_everything_in_memory_does_not_miss_a_database(start_sequencer: StartSequencer) -> None:
    sequencer = start_sequencer(SEQUENCER_PERSISTENCE="memory", ENV_TYPE="production")
    report = sequencer.client.get("/readyz")
    assert (report.status_code, report.json()["state"]) == (200, "operational")
    database, own = report.json()["stages"]
    assert {check["status"] for check in database["checks"]} == {"not_applicable"}
    assert {check["name"]: check["status"] for check in own["checks"]} == {
        "database_pool": "not_applicable",
        "lane": "success",
        "request_log": "not_applicable",
        "stored_plans": "not_applicable",
    }
    told = check("--strict", SEQUENCER_PERSISTENCE="memory", API_SERVER_APP="throttling_sequencer.app:SEQUENCER")
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.slow
def test_a_sequencer_that_is_killed_piece_by_piece_says_what_is_missing(start_sequencer: StartSequencer) -> None:
    """A planning process that is killed is told of, and is not missed for long."""
    import psutil

    sequencer = start_sequencer(SEQUENCER_PERSISTENCE="memory", SEQUENCER_LANE_WORKERS="2", ENV_TYPE="production")

    def lane() -> tuple[str, str]:
        checks = sequencer.client.get("/readyz").json()["stages"][1]["checks"]
        (found,) = [check for check in checks if check["name"] == "lane"]
        return found["status"], found["message"]

    assert lane() == ("success", "2 of 2 planning processes live")
    children = psutil.Process(sequencer.service.process.pid).children()
    victims = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    assert len(victims) == 2
    victims[0].kill()
    sequencer.service.wait_until_it_writes("planning process killed")
    seconds_until(lambda: lane() == ("success", "2 of 2 planning processes live"), 20)


def test_the_start_is_told_in_one_line(start_sequencer: StartSequencer, no_database: dict[str, str]) -> None:
    sequencer = start_sequencer(**no_database)
    (line,) = [line for line in sequencer.server_log if line["event"] == "service started"]
    assert (line["application"], line["state"]) == ("throttling_sequencer", "degraded")
    assert (line["liveness"], line["readiness"], line["graphql"]) == ("/livez", "/readyz", "/graphql")
    # Before anybody could ask.
    told = sequencer.service.log
    assert told.index("service started") < told.index("Application startup complete")


@pytest.mark.slow
@pytest.mark.parametrize(("profiles", "rest", "graphql"), [("rest", 200, 404), ("graphql", 404, 200)])
def test_a_service_may_have_one_face(
    start_sequencer: StartSequencer,
    in_memory: dict[str, str],
    game_state: dict[str, Any],
    profiles: str,
    rest: int,
    graphql: int,
) -> None:
    sequencer = start_sequencer(**in_memory, API_SERVER_PROFILES=profiles, SEQUENCER_TIMEOUT_MS="20")
    assert sequencer.plan(game_state).status_code == rest
    assert sequencer.client.post("/graphql", json={"query": "{version{name}}"}).status_code == graphql
    assert sequencer.client.get("/readyz").status_code == 200
