"""What a service tells a collector: whole traces, what its log says of them too, and nothing that is secret."""

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
from api_server.local.postgres import PostgresAddress
from api_server.testing import fresh_database
from collector import CollectedSpan, Collector, black_hole, collected_at, collecting
from piccolo_database import piccolo_environment
from sequencer_process import Sequencer, StartSequencer
from websockets.sync.client import connect
from websockets.typing import Subprotocol

PLAN = "/api/v1/throttle/calculate_throttle_steps"
HTTP_PLAN = f"POST {PLAN}"
SMALL = {"SEQUENCER_LANE_WORKERS": "1", "SEQUENCER_TIMEOUT_MS": "20"}
UNIT = "{coordinate: {x: 0, y: 0}, speed: 0, mass: 1, friction: 0}"
STATE = f"gameStateInput: {{playerUnits: [{UNIT}], enemyUnits: [{UNIT}]}}"
PROBES = ("/livez", "/ping", "/readyz", "/health-check", "/api/v1/health", "/metrics")


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def sequencer(start_shared_sequencer: StartSequencer, collector: Collector) -> Sequencer:
    return start_shared_sequencer(**collector.environment, **SMALL)


@pytest.fixture(scope="module")
def reluctant(start_shared_sequencer: StartSequencer, collector: Collector) -> Sequencer:
    """Records only what clients ask for."""
    return start_shared_sequencer(
        **{**collector.environment, "API_SERVER_TELEMETRY_RATIO": "0"}, **SMALL, OTEL_SERVICE_NAME="reluctant"
    )


def traceparent(*, is_asked: bool = True) -> tuple[str, str, str]:
    """Return ids of a trace and a span that a client is in, and the header that says so."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    return trace_id, span_id, f"00-{trace_id}-{span_id}-0{int(is_asked)}"


def assert_within(outer: CollectedSpan, *parts: CollectedSpan) -> None:
    for part in parts:
        assert part.parent == outer.span_id
        assert outer.begun <= part.begun <= part.ended <= outer.ended


def conversation(sequencer: Sequencer, query: str, header: str) -> list[Any]:
    """Ask on a socket, and return what was answered until it was complete."""
    url = f"{sequencer.url.replace('http', 'ws')}/graphql"
    protocols = [Subprotocol("graphql-transport-ws")]
    with connect(url, subprotocols=protocols, additional_headers={"traceparent": header}) as socket:
        socket.send(json.dumps({"type": "connection_init"}))
        socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": query}}))
        answers = [json.loads(socket.recv(timeout=5))]
        while answers[-1]["type"] not in ("complete", "error"):
            answers.append(json.loads(socket.recv(timeout=5)))
        return answers


def test_a_plan_is_one_trace_from_the_client_to_the_search(
    sequencer: Sequencer, collector: Collector, game_state: Any
) -> None:
    trace_id, client, header = traceparent()
    answer = sequencer.client.post(PLAN, json=game_state, headers={"traceparent": header}).raise_for_status()
    collector.wait_for(lambda it: HTTP_PLAN in it.trace(trace_id))
    trace = collector.trace(trace_id)
    assert trace.keys() == {HTTP_PLAN, "plan", "plan.wait", "plan.search"}
    assert trace[HTTP_PLAN].parent == client
    assert_within(trace[HTTP_PLAN], trace["plan"])
    assert_within(trace["plan"], trace["plan.wait"], trace["plan.search"])
    assert trace["plan.wait"].ended <= trace["plan.search"].begun
    assert trace["plan"].attributes == {"units": 1, "strategy": "default", "budget_ms": 20}
    assert trace[HTTP_PLAN].resource["service.name"] == "throttling_sequencer"
    sequencer.service.wait_until_it_writes(trace_id)
    (line,) = [line for line in sequencer.server_log if line.get("trace_id") == trace_id]
    assert (line["event"], line["span_id"]) == ("request answered", trace[HTTP_PLAN].span_id)
    assert line["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize(
    ("query", "name", "outcome"),
    [
        ("query Mine { version { name } }", "graphql query", "success"),
        (
            f'query Mine {{ calculateThrottleSteps({STATE}, strategy: "no such") {{ throttle }} }}',
            "graphql query",
            "failed",
        ),
        ("query Mine { nothing }", "graphql query", "refused"),
        ("{ not a document", "graphql", "refused"),
    ],
)
def test_an_operation_is_part_of_its_request(
    sequencer: Sequencer, collector: Collector, query: str, name: str, outcome: str
) -> None:
    trace_id, _, header = traceparent()
    sequencer.client.post("/graphql", json={"query": query}, headers={"traceparent": header})
    collector.wait_for(lambda it: "POST /graphql" in it.trace(trace_id))
    trace = collector.trace(trace_id)
    assert_within(trace["POST /graphql"], trace[name])
    named = {"graphql.operation.type": "query", "graphql.operation.name": "Mine"} if name != "graphql" else {}
    assert trace[name].attributes == {"outcome": outcome, **named}


def test_an_operation_on_a_socket_is_a_trace_that_is_linked_to_the_sockets(
    sequencer: Sequencer, collector: Collector
) -> None:
    trace_id, client, header = traceparent()
    answers = conversation(sequencer, f"subscription Live {{ generateSteps({STATE}) {{ throttle }} }}", header)
    assert answers[-1]["type"] == "complete"
    collector.wait_for(lambda it: "WS /graphql" in it.trace(trace_id))
    socket = collector.trace(trace_id)
    assert socket.keys() == {"WS /graphql"}
    assert socket["WS /graphql"].parent == client
    (operation,) = [span for span in collector.spans if span.links == (trace_id,)]
    assert (operation.name, operation.parent) == ("graphql subscription", "")
    assert operation.attributes["graphql.operation.name"] == "Live"
    assert operation.attributes["outcome"] in ("success", "cancelled")
    trace = collector.trace(operation.trace_id)
    assert_within(operation, trace["plan"])
    assert_within(trace["plan"], trace["plan.search"])


def test_probes_are_told_to_nobody(sequencer: Sequencer, collector: Collector) -> None:
    trace_id, _, header = traceparent()
    for path in PROBES:
        assert sequencer.client.get(path, headers={"traceparent": header}).status_code == 200
    other, _, header = traceparent()
    sequencer.client.get("/version", headers={"traceparent": header})
    collector.wait_for(lambda it: it.trace(other))
    assert collector.trace(trace_id) == {}


def test_clients_may_send_what_they_like(sequencer: Sequencer, collector: Collector) -> None:
    hostile = ["", "x" * 8000, f"00-{'0' * 32}-{'0' * 16}-01", f"ff-{'1' * 32}-{'1' * 16}-01", "00-é", "0" * 55]
    for header in hostile:
        headers = [(b"traceparent", header.encode()), (b"tracestate", b"a=b," * 1000), (b"baggage", b"c=d," * 1000)]
        assert sequencer.client.get("/version", headers=headers).status_code == 200
    trace_id, _, header = traceparent()
    sequencer.client.get("/version", headers={"traceparent": header, "tracestate": "told=by-a-client"})
    collector.wait_for(lambda it: it.trace(trace_id))
    assert not any(b"by-a-client" in body or b"a=b" in body for body in collector.bodies)


@pytest.mark.slow
def test_a_part_of_nothing_is_recorded_where_the_client_asks_for_it(reluctant: Sequencer, collector: Collector) -> None:
    for _ in range(20):
        reluctant.client.get("/version")
    not_asked, _, header = traceparent(is_asked=False)
    reluctant.client.get("/version", headers={"traceparent": header})
    asked, _, header = traceparent()
    reluctant.client.get("/version", headers={"traceparent": header})
    collector.wait_for(lambda it: it.trace(asked))
    assert collector.trace(not_asked) == {}
    told = [span.trace_id for span in collector.spans if span.resource["service.name"] == "reluctant"]
    assert told == [asked]
    # The log has its id all the same.
    reluctant.service.wait_until_it_writes(not_asked)


def wait_until_the_event_is_heard(sequencer: Sequencer) -> None:
    """The database tells of it after the answer."""
    deadline = time.monotonic() + 10
    while 'events_emitted_total{event="PresetChanged"}' not in sequencer.client.get("/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_stored_plan_tells_what_it_waited_for_in_the_database(
    start_sequencer: StartSequencer, collector: Collector, postgres: PostgresAddress, game_state: Any
) -> None:
    with fresh_database(postgres) as database:
        sequencer = start_sequencer(
            **collector.environment, **SMALL, **piccolo_environment(database), PICCOLO_DB_RUN_MIGRATIONS="true"
        )
        trace_id, _, header = traceparent()
        headers = {"traceparent": header}
        sequencer.client.post("/api/v1/plans", json=game_state, headers=headers).raise_for_status()
        preset_id, _, header = traceparent()
        preset = {"kind": "scenario", "name": "one", "document": game_state}
        sequencer.client.post("/api/v1/presets", json=preset, headers={"traceparent": header}).raise_for_status()
        sequencer.client.post("/graphql", json={"query": "{ version { name } }"}).raise_for_status()
        wait_until_the_event_is_heard(sequencer)
        sequencer.service.stop()
    trace = collector.trace(trace_id)
    assert_within(trace["POST /api/v1/plans"], trace["plan"], trace["database.transaction"])
    assert_within(trace["database.transaction"], trace["database.acquire"], trace["database.commit"])
    assert trace["database.commit"].attributes == {"db.system.name": "postgresql"}
    kept = collector.trace(preset_id)
    assert_within(kept["POST /api/v1/presets"], kept["database.session"])
    assert kept["event.handle"].attributes["event"] == "PresetChanged"
    (written,) = [span for span in collector.spans if span.name == "request_log.write"]
    assert (written.attributes["requests"], written.parent) == (1, "")
    assert_within(written, collector.trace(written.trace_id)["database.use"])


@pytest.mark.slow
def test_each_worker_tells_for_itself(start_sequencer: StartSequencer, in_memory: dict[str, str]) -> None:
    with collecting() as collector:
        sequencer = start_sequencer(**collector.environment, **SMALL, **in_memory, UVICORN_WORKERS="2")
        deadline = time.monotonic() + 20
        while len({span.resource["service.instance.id"] for span in collector.spans}) < 2:
            assert time.monotonic() < deadline
            # A connection of its own each time, which either worker may take.
            sequencer.client.get("/version", headers={"Connection": "close"})


@pytest.mark.slow
@pytest.mark.parametrize("collector_is", ["down", "a black hole"])
def test_a_dead_collector_changes_nothing(
    start_sequencer: StartSequencer, unused_tcp_port: int, in_memory: dict[str, str], game_state: Any, collector_is: str
) -> None:
    with black_hole() as hole:
        endpoint = hole if collector_is == "a black hole" else f"http://127.0.0.1:{unused_tcp_port}"
        variables = {**collected_at(endpoint), "API_SERVER_TELEMETRY_RATIO": "1", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5"}
        sequencer = start_sequencer(**variables, **SMALL, **in_memory)
        assert all(sequencer.plan(game_state).status_code == 200 for _ in range(50))
        sequencer.service.wait_until_it_writes("telemetry not delivered")
        for _ in range(1000):
            assert sequencer.client.get("/version").status_code == 200
        begun = time.monotonic()
        assert sequencer.service.stop() == 0
        assert time.monotonic() - begun < 4
    said = [line for line in sequencer.server_log if "telemetry" in (line["event"] + line["logger"])]
    assert [line["event"] for line in said] == ["telemetry not delivered"]


@pytest.mark.slow
def test_a_collector_that_hangs_holds_up_nobody_who_leaves(
    start_sequencer: StartSequencer, in_memory: dict[str, str]
) -> None:
    """By its own time it would hang for ten seconds."""
    with black_hole() as hole:
        sequencer = start_sequencer(**collected_at(hole), **SMALL, **in_memory, API_SERVER_TELEMETRY_RATIO="1")
        sequencer.client.get("/version")
        begun = time.monotonic()
        assert sequencer.service.stop() == 0
        assert time.monotonic() - begun < 5


@pytest.mark.slow
def test_spans_may_go_to_the_console(start_sequencer: StartSequencer, in_memory: dict[str, str]) -> None:
    sequencer = start_sequencer(
        **in_memory,
        **SMALL,
        API_SERVER_TELEMETRY="console",
        API_SERVER_TELEMETRY_RATIO="1",
        OTEL_BSP_SCHEDULE_DELAY="50",
    )
    sequencer.client.get("/version")
    sequencer.service.wait_until_it_writes('"name": "GET /version"')
