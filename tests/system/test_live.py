"""Live goals: one behaviour, whatever protocol and whatever client they are watched by."""

import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from live_clients import JAVASCRIPT, PYTHON, Arrival, RefusedError, Watch, client, install_javascript
from sequencer_process import Sequencer, StartSequencer

GOALS = """subscription Goals($state: GameStateInputType!, $seed: Int) {
  generateSteps(gameStateInput: $state, seed: $seed) { coordinate { x y } throttle }
}"""
SUPPORT = Path(__file__).parents[1] / "support"


def unit(x: float) -> dict[str, Any]:
    return {"coordinate": {"x": x, "y": 0}, "speed": 0, "mass": 10, "friction": 0.01}


def state(distance: float = 5000) -> dict[str, Any]:
    return {"playerUnits": [unit(0)], "enemyUnits": [unit(distance)]}


@pytest.fixture(scope="session")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("javascript")
    install_javascript(folder)
    return folder


# What an older client hears, a newer one hears by the same frames.
CLIENTS = [pytest.param(name, marks=pytest.mark.slow) for name in JAVASCRIPT]


@pytest.fixture(params=[*PYTHON, *CLIENTS])
def watch(request: pytest.FixtureRequest, javascript: Path) -> Watch:
    return client(request.param, javascript)


@pytest.fixture(scope="module")
def sequencer(start_shared_sequencer: StartSequencer) -> Sequencer:
    """One whose searches are repeatable: their generations end them, and not their time."""
    return start_shared_sequencer(
        SEQUENCER_GENERATIONS="5",
        SEQUENCER_POPULATION_SIZE="60",
        SEQUENCER_TIMEOUT_MS="60000",
        SEQUENCER_STEP_INTERVAL_MS="40",
    )


@pytest.fixture(scope="module")
def production(start_shared_sequencer: StartSequencer) -> Sequencer:
    return start_shared_sequencer(ENV_TYPE="production")


@pytest.fixture(scope="module")
def busy(start_shared_sequencer: StartSequencer) -> Sequencer:
    """One that plans for a minute, one plan at a time, and lets nobody wait; by the other strategy it is quick."""
    return start_shared_sequencer(
        SEQUENCER_GENERATIONS="1000000",
        SEQUENCER_TIMEOUT_MS="60000",
        SEQUENCER_MAX_SEQUENCE_LENGTH="1",
        SEQUENCER_LANE_WORKERS="1",
        SEQUENCER_LANE_WAITING="0",
    )


@pytest.fixture
def endpoint(sequencer: Sequencer) -> str:
    return f"{sequencer.url}/graphql"


def goals_of(arrivals: list[Arrival]) -> list[Any]:
    return [arrival.result["data"]["generateSteps"] for arrival in arrivals]


def test_the_goals_of_the_real_plan_arrive_in_order_each_once_at_their_pace(
    sequencer: Sequencer, watch: Watch, endpoint: str
) -> None:
    here = {"player_units": [unit(0)], "enemy_units": [unit(5000)]}
    plan = sequencer.plan(here, seed=7).json()
    assert len(plan) > 50
    arrivals = list(watch(endpoint, GOALS, {"state": state(), "seed": 7}))
    assert goals_of(arrivals) == plan
    gaps = [after.at - before.at for before, after in itertools.pairwise(arrivals)]
    deviations = [abs(gap - 0.040) for gap in gaps]
    assert statistics.quantiles(deviations, n=20)[18] <= 0.020, sorted(gaps)
    assert "Traceback" not in sequencer.service.log


def test_what_is_wrong_is_told_by_code_field_and_rule(sequencer: Sequencer, watch: Watch, endpoint: str) -> None:
    (arrival,) = watch(endpoint, GOALS, {"state": {**state(), "enemyUnits": []}})
    (error,) = arrival.result["errors"]
    assert error["extensions"] == {
        "code": "INVALID_VALUE",
        "field": "enemyUnits",
        "rule": "should hold at least one unit",
    }
    (arrival,) = watch(endpoint, "subscription { generateStops { throttle } }")
    (error,) = arrival.result["errors"]
    assert error["extensions"] == {"code": "GRAPHQL_VALIDATION_FAILED"}
    assert "Traceback" not in sequencer.service.log


def test_who_watches_is_who_their_credentials_say(sequencer: Sequencer, watch: Watch, endpoint: str) -> None:
    user = uuid4().hex
    bearer = f"Bearer {user}"
    assert len(list(watch(endpoint, GOALS, {"state": state(1), "seed": 1}, authorization=bearer))) >= 1
    log = {"query": "{ requestLog(first: 100) { nodes { operationName userId } } }"}

    def logged(headers: dict[str, str]) -> list[tuple[str | None, str]]:
        answer = sequencer.client.post("/graphql", json=log, headers=headers).json()
        return [(node["operationName"], node["userId"]) for node in answer["data"]["requestLog"]["nodes"]]

    deadline = time.monotonic() + 5
    while ("Goals", user) not in logged({"Authorization": bearer}):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert {who for _, who in logged({"Authorization": bearer})} == {user}
    assert user not in {who for _, who in logged({})}


def test_nobody_watches_a_service_without_an_identity_provider(production: Sequencer, watch: Watch) -> None:
    with pytest.raises(RefusedError):
        list(watch(f"{production.url}/graphql", GOALS, {"state": state()}, authorization="Bearer x"))
    assert "Traceback" not in production.service.log


WATCH_FOR_EVER = """
import json, sys
from pathlib import Path
from live_clients import client
name, folder, url, query, state = sys.argv[1:]
while True:
    for _ in client(name, Path(folder))(url, query, {"state": json.loads(state)}):
        pass
"""


@pytest.mark.parametrize("name", [*PYTHON, *CLIENTS])
def test_a_client_that_is_killed_while_it_is_planned_for_frees_the_lane(
    busy: Sequencer, javascript: Path, name: str
) -> None:
    arguments = [name, str(javascript), f"{busy.url}/graphql", GOALS, json.dumps(state())]
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCH_FOR_EVER, *arguments], env=environment, start_new_session=True
    )
    try:
        admitted(busy, wanted=False)
    finally:
        os.killpg(watcher.pid, signal.SIGKILL)
        killed = time.perf_counter()
        watcher.wait()
    assert admitted(busy, wanted=True) - killed < 0.2
    assert "Traceback" not in busy.service.log


def admitted(sequencer: Sequencer, *, wanted: bool) -> float:
    """Ask for quick plans until one is admitted, or refused; return when that one was asked for."""
    deadline = time.perf_counter() + 20
    while True:
        asked = time.perf_counter()
        here = {"player_units": [unit(0)], "enemy_units": [unit(1)]}
        answer = sequencer.plan(here, strategy="random")
        assert answer.status_code in (200, 503)
        if (answer.status_code == 200) is wanted:
            return asked
        assert asked < deadline
        # A quick plan of this test's own takes the one place too: others are let in between.
        time.sleep(0.002 if wanted else 0.3)


def test_a_hundred_clients_that_vanish_leave_the_server_as_it_was(sequencer: Sequencer, endpoint: str) -> None:
    process = psutil.Process(sequencer.service.process.pid)

    def footprint() -> tuple[int, int, int]:
        return process.num_fds(), process.num_threads(), len(process.children(recursive=True))

    def vanish(number: int) -> None:
        watching = client(PYTHON[number % 3], Path())(endpoint, GOALS, {"state": state(1000), "seed": 1})
        next(watching)
        watching.close()

    for number in range(6):
        vanish(number)
    time.sleep(0.5)  # what the first ones began, such as threads, is there to stay
    before = footprint()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(vanish, range(100)))
    deadline = time.perf_counter() + 5
    while footprint() != before:
        assert time.perf_counter() < deadline, f"{footprint()} is left, {before} was there before"
        time.sleep(0.02)
    assert "Traceback" not in sequencer.service.log


def test_an_operation_that_is_no_subscription_is_answered_as_a_stream_of_one(endpoint: str) -> None:
    """But not by the legacy protocol, which says so."""
    for name in ("graphql-transport-ws", "sse"):
        (arrival,) = client(name, Path())(endpoint, "{ version { name } }")
        assert arrival.result["data"] == {"version": {"name": "throttling_sequencer"}}


def test_a_subscription_by_plain_http_is_told_how_to_be_watched(sequencer: Sequencer) -> None:
    answer = sequencer.client.post("/graphql", json={"query": GOALS, "variables": {"state": state()}})
    assert answer.status_code == 406
    assert "text/event-stream" in answer.json()["detail"]
    assert "Traceback" not in sequencer.service.log


def test_an_event_source_of_a_browser_asks_by_get(sequencer: Sequencer) -> None:
    parameters = {"query": GOALS, "variables": json.dumps({"state": state(1), "seed": 1})}
    with sequencer.client.stream(
        "GET", "/graphql", params=parameters, headers={"Accept": "text/event-stream"}
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-request-id"]
        text = answer.read().decode()
    assert text.startswith("event: next\r\ndata: {")
    assert text.endswith("event: complete\r\ndata: \r\n\r\n")
