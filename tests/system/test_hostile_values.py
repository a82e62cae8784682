"""Whatever stands where a value belongs, over every face: it is refused, no error logged, and the service goes on."""

import json
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx2
import pytest
from api_server.local.postgres import PostgresAddress
from api_server.testing import fresh_database
from hostile_values import NO_JSON, NO_NUMBERS, NUMBERS, OUT_OF_RANGE, SHAPES, STRINGS, leaves, replaced
from piccolo_database import piccolo_environment
from sequencer_process import Sequencer, running_sequencer
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

# Thousands of requests; what is wrong most often, `make test` asks too (test_plans.py).
pytestmark = pytest.mark.slow

JSON = {"Content-Type": "application/json"}
UNIT = {"coordinate": {"x": 0, "y": 0}, "speed": 0, "mass": 10, "friction": 0.01}
STATE = {"player_units": [UNIT], "enemy_units": [UNIT]}
CAMEL = {"playerUnits": [UNIT], "enemyUnits": [UNIT]}
SEARCH = {"strategy": "random", "budget_ms": 5, "seed": 1, "targets": [0]}
CONFIGURATION = {
    "population_size": 60,
    "generations": 3,
    "mutation_rate": 0.1,
    "best_parents": 20,
    "worst_parents": 10,
    "speed_threshold": 5.0,
    "throttle_range": [0, 300],
    "max_sequence_length": 100,
    "distance_weight": 1.0,
    "timeout_ms": 5,
}
NOBODY = "01900000-0000-7000-8000-000000000000"

# What is called by these paths, and with a body that is good.
BODIES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/api/v1/throttle/calculate_throttle_steps", STATE),
    ("POST", "/api/v1/throttle/plan", {**STATE, **SEARCH, "include": ["trajectory"]}),
    ("POST", "/api/v1/plans", {**STATE, **SEARCH}),
    ("POST", "/api/v1/presets", {"kind": "scenario", "name": "a", "document": STATE}),
    ("POST", "/api/v1/presets", {"kind": "genetic_configuration", "name": "a", "document": CONFIGURATION}),
    ("PUT", "/api/v1/presets/{scenario}", {"kind": "scenario", "name": "b", "document": STATE, "version": 99}),
    ("DELETE", "/api/v1/presets/{scenario}", {"version": 99}),
    ("POST", "/api/v1/scenarios/{scenario}/plan", {**SEARCH, "include": ["trajectory"]}),
]
# `null` leaves the choice to the service.
OPTIONAL = {"budget_ms", "seed", "targets", "strategy", "version"}

PLAN = """query P($s: GameStateInputType!, $seed: Int, $n: Int) {
  planThrottle(gameStateInput: $s, seed: $seed, budgetMs: $n) {score}
}"""
UNEXPECTED = "INTERNAL_SERVER_ERROR"


@pytest.fixture(scope="module")
def running(
    postgres: PostgresAddress,
    tmp_path_factory: pytest.TempPathFactory,
    unused_tcp_port_factory: Callable[[], int],
) -> Iterator[Sequencer]:
    """One service with its database, for everything here: what one test did to it, the next would see."""
    with (
        fresh_database(postgres) as database,
        running_sequencer(
            tmp_path_factory.mktemp("sequencer"),
            unused_tcp_port_factory(),
            **piccolo_environment(database),
            PICCOLO_DB_RUN_MIGRATIONS="true",
            SEQUENCER_TIMEOUT_MS="5",
            SEQUENCER_LANE_WORKERS="1",
        ) as sequencer,
    ):
        yield sequencer


@pytest.fixture
def sequencer(running: Sequencer) -> Iterator[Sequencer]:
    before = len(running.service.log)
    yield running
    assert running.plan(STATE, strategy="random").status_code == 200
    new = running.service.log[before:]
    lines = [json.loads(line) for line in new.splitlines() if line.startswith("{")]
    assert [line for line in lines if line["level"] in ("error", "critical")] == []
    assert "Traceback" not in new


@pytest.fixture(scope="module")
def scenario(running: Sequencer) -> str:
    preset = {"kind": "scenario", "name": "kept", "document": STATE}
    identifier: str = running.client.post("/api/v1/presets", json=preset).json()["id"]
    return identifier


def written(document: Any, path: tuple[str | int, ...], text: str) -> bytes:
    """Write a document as JSON that has this text, whatever it is, at a path."""
    return json.dumps(replaced(document, path, "@")).replace('"@"', text).encode()


def variants(body: dict[str, Any]) -> Iterator[tuple[str, bytes, bool]]:
    """Return bodies that are wrong in one place: what is wrong, the text, and whether it must be refused."""
    for path, value in leaves(body):
        is_number = isinstance(value, int | float)
        for name, text in ({**NO_NUMBERS, **OUT_OF_RANGE, **NUMBERS} if is_number else STRINGS).items():
            is_default = name == "null" and not OPTIONAL.isdisjoint(path)
            must = is_number and name not in NUMBERS and not is_default and path != ("version",)
            yield f"{path}: {name}", written(body, path, text), must


@pytest.mark.parametrize(("method", "path", "body"), BODIES, ids=[f"{method} {path}" for method, path, _ in BODIES])
def test_in_a_field_of_a_body(
    sequencer: Sequencer, scenario: str, method: str, path: str, body: dict[str, Any]
) -> None:
    for what, text, must_be_refused in variants(body):
        answer = sequencer.client.request(method, path.format(scenario=scenario), content=text, headers=JSON)
        assert answer.status_code < 500, (what, answer.text)
        assert answer.status_code >= 400 or not must_be_refused, (what, answer.text)


@pytest.mark.parametrize(("method", "path", "body"), BODIES, ids=[f"{method} {path}" for method, path, _ in BODIES])
def test_in_place_of_a_body(sequencer: Sequencer, scenario: str, method: str, path: str, body: dict[str, Any]) -> None:
    # Where everything has a default, these mean just that.
    defaults = {"nothing", "null", "an empty object"} if path.endswith("{scenario}/plan") else set()
    for what, text in {**NO_JSON, **SHAPES}.items():
        answer = sequencer.client.request(method, path.format(scenario=scenario), content=text, headers=JSON)
        assert 400 <= answer.status_code < 500 or what in defaults, (what, answer.text)
        if answer.is_error:
            assert answer.headers["content-type"] == "application/problem+json", what
            # Nor does an answer repeat a megabyte of it.
            assert len(answer.content) < 10_000, what


def test_a_mark_of_the_byte_order_is_taken_or_refused(sequencer: Sequencer) -> None:
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        body = json.dumps(STATE).encode(encoding)
        answer = sequencer.client.post("/api/v1/throttle/plan", content=body, headers=JSON)
        assert answer.status_code in (200, 400, 415, 422)


@pytest.mark.parametrize("item", ["{}", "1", "null", "[]", '{"coordinate": {}}'])
@pytest.mark.parametrize("place", ["player_units", "targets", "include"])
def test_as_hundreds_of_thousands_of_items(sequencer: Sequencer, item: str, place: str) -> None:
    """As many as fit into a body: the first says enough, and nobody waits for a report about each."""
    items = ",".join([item] * ((2**20 - 1000) // (len(item) + 1)))
    good = {"player_units": json.dumps([UNIT]), "enemy_units": json.dumps([UNIT])}
    fields = {**good, place: f"[{items}]"}
    body = "{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}"
    answer = sequencer.client.post("/api/v1/throttle/plan", content=body, headers=JSON)
    assert answer.status_code == 422
    assert len(answer.content) < 2_000


@pytest.mark.parametrize("place", ["{%s}", '{"player_units": [{%s}]}', '{"player_units": [{"coordinate": {%s}}]}'])
def test_as_tens_of_thousands_of_keys(sequencer: Sequencer, place: str) -> None:
    keys = ",".join(f'"k{number}":1' for number in range(80_000))
    answer = sequencer.client.post("/api/v1/throttle/plan", content=place.replace("%s", keys), headers=JSON)
    assert answer.status_code == 422
    assert "at most 20 fields" in answer.text
    assert len(answer.content) < 2_000


IN_URLS = ["", "%00", "%0d%0aX-A:b", "%ff%fe", "%ed%a0%80", "../../etc", "1e999", "NaN", "-1", "9" * 400, "x" * 5000]


@pytest.mark.parametrize("value", IN_URLS, ids=ascii)
def test_in_a_url(sequencer: Sequencer, scenario: str, value: str) -> None:
    client = sequencer.client
    for query in ("strategy", "seed", "limit", "cursor", "kind", "force_rerun", "owner", value or "x"):
        for path in ("/api/v1/plans", "/api/v1/presets", "/readyz", "/nowhere"):
            answer = client.get(f"{path}?{query}={value}")
            assert answer.status_code < 500, (query, path, answer.text)
        for path in (
            "/api/v1/throttle/calculate_throttle_steps",
            f"/api/v1/scenarios/{scenario}/calculate_throttle_steps",
        ):
            answer = client.post(f"{path}?{query}={value}", json=STATE)
            assert answer.status_code < 500, (query, path, answer.text)
    for path in ("/api/v1/plans/", "/api/v1/presets/", "/api/v1/", "/graphql/"):
        for method in ("GET", "PUT", "DELETE"):
            answer = client.request(method, f"{path}{value}", json={})
            assert answer.status_code < 500, (path, method, answer.text)
    assert client.post(f"/api/v1/scenarios/{value or 'x'}/plan").status_code in (404, 405, 422)


HEADERS = [
    b"",
    b"\xff\xfe",
    b"a b",
    b'"',
    b'"a',
    b"x" * 5000,
    b"NaN",
    b"1e999",
    b'W/"1"',
    b'"9999999999999999999"',
    b"*",
    b"\t",
    b"a, b",
]


def spoken(sequencer: Sequencer, request: bytes) -> bytes:
    """Send bytes that no client would, and return what is answered."""
    with socket.create_connection(("127.0.0.1", int(sequencer.url.rpartition(":")[2])), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


def head(method: str, path: str, *lines: bytes) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n".encode() + b"".join(lines) + b"\r\n"


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("value", HEADERS, ids=ascii)
def test_in_a_header(sequencer: Sequencer, scenario: str, value: bytes) -> None:
    body = json.dumps({**STATE, **SEARCH}).encode()
    names = (
        b"Idempotency-Key",
        b"If-Match",
        b"X-Request-ID",
        b"Authorization",
        b"Accept",
        b"Origin",
        b"Cookie",
        b"X-Forwarded-For",
        b"Traceparent",
        b"Accept-Encoding",
    )
    for name in names:
        lines = (
            b"%b: %b\r\n" % (name, value),
            b"Content-Type: application/json\r\n",
            b"Content-Length: %d\r\n" % len(body),
        )
        for method, path in (("POST", "/api/v1/plans"), ("PUT", f"/api/v1/presets/{scenario}"), ("POST", "/graphql")):
            answer = spoken(sequencer, head(method, path, *lines) + body)
            assert 200 <= status(answer) < 500, (name, path, answer)
            echoed = answer.partition(b"\r\n\r\n")[0]
            assert name != b"X-Request-ID" or value not in echoed or value in (b"", b"*", b"NaN", b"1e999"), echoed
    for kind in (value, b"application/json; charset=" + value):
        described = head("POST", "{path}", b"Content-Type: %b\r\n" % kind, b"Content-Length: %d\r\n" % len(body))
        for place in (b"/api/v1/throttle/plan", b"/graphql"):
            assert 200 <= status(spoken(sequencer, described.replace(b"{path}", place) + body)) < 500, kind


@pytest.mark.parametrize(
    "line",
    [
        b"X-Request-ID: a\rb\r\n",
        b"X-Request-ID: a\nb: c\r\n",
        b"X-Request-ID: a\r\n b\r\n",
        b"X-Request-ID: a\x00b\r\n",
        b"X Request: a\r\n",
        b": a\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 1e3\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Content-Length: 1\r\nContent-Length: 2\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
    ],
    ids=ascii,
)
def test_in_a_head_that_is_none(sequencer: Sequencer, line: bytes) -> None:
    """Refused, or read as it is meant: never as two requests, and never as a second header."""
    answer = spoken(sequencer, head("GET", "/version", line) + b"\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert status(answer) in (200, 400, 413), answer
    assert b"x-correlation-id: a\r\n" not in answer.lower()
    assert b"\r\nb: c" not in answer


@pytest.mark.parametrize("where", ["URL", "header", "headers"])
@pytest.mark.parametrize("path", ["/livez", "/graphql", "/api/v1/plans"])
def test_in_a_head_that_is_too_long(sequencer: Sequencer, where: str, path: str) -> None:
    size = 70_000
    match where:
        case "URL":
            request = head("GET", f"{path}?q=" + "x" * size)
        case "header":
            request = head("GET", path, b"X-A: " + b"x" * size + b"\r\n")
        case _:
            request = head("GET", path, b"X-A: b\r\n" * (size // 8))
    assert status(spoken(sequencer, request)) == 431


def graphql_codes(answer: httpx2.Response) -> list[str]:
    assert answer.status_code < 500, answer.text
    document = answer.json()
    if answer.is_error:
        assert answer.headers["content-type"] == "application/problem+json"
        return [document["code"]]
    return [error["extensions"]["code"] for error in document.get("errors") or []]


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_in_variables(sequencer: Sequencer, accept: str) -> None:
    variables = {"s": CAMEL, "seed": 1, "n": 5}
    for path, value in leaves(variables):
        for name, text in {**NO_NUMBERS, **OUT_OF_RANGE, **NUMBERS}.items():
            body = written({"query": PLAN, "variables": variables}, ("variables", *path), text)
            answer = sequencer.client.post("/graphql", content=body, headers={**JSON, "Accept": accept})
            assert answer.status_code < 500
            assert UNEXPECTED not in answer.text, (path, name, answer.text)
            is_default = name == "null" and path[0] != "s"
            if name not in NUMBERS and not is_default:
                assert answer.is_error or '"errors"' in answer.text, (path, name, answer.text)
            assert value is not None


def test_in_literals(sequencer: Sequencer) -> None:
    names = ("x", "speed", "mass", "friction", "seed", "budgetMs")
    for name in names:
        for what, text in {**NO_NUMBERS, **OUT_OF_RANGE, **NUMBERS}.items():
            values = {"x": "0", "speed": "0", "mass": "1", "friction": "0", "seed": "1", "budgetMs": "5", name: text}
            fields = ", ".join(f"{field}: {values[field]}" for field in ("speed", "mass", "friction"))
            literal = f"{{coordinate: {{x: {values['x']}, y: 0}}, {fields}}}"
            state = f"{{playerUnits: [{literal}], enemyUnits: [{literal}]}}"
            arguments = f"gameStateInput: {state}, seed: {values['seed']}, budgetMs: {values['budgetMs']}"
            answer = sequencer.client.post("/graphql", json={"query": f"{{planThrottle({arguments}) {{score}}}}"})
            codes = graphql_codes(answer)
            assert UNEXPECTED not in codes, (name, what, answer.text)
            may_be_good = what in NUMBERS or (what == "null" and name in ("seed", "budgetMs"))
            assert codes or may_be_good, (name, what, answer.text)


def test_in_strings_of_graphql(sequencer: Sequencer) -> None:
    fields = [
        "query ($v: ID!) {plan(id: $v) {id}}",
        "query ($v: ID!) {preset(id: $v) {id}}",
        "query ($v: String!) {presets(kind: $v) {pageInfo {hasNextPage}}}",
        'query ($v: String!) {presets(kind: "scenario", after: $v) {pageInfo {hasNextPage}}}',
        "query ($v: String!) {plans(after: $v) {pageInfo {hasNextPage}}}",
        "query ($v: String!) {requestLog(after: $v) {pageInfo {hasNextPage}}}",
        "query ($v: UUID!) {planScenario(scenarioId: $v) {score}}",
        'mutation ($v: String!) {createPreset(kind: "scenario", name: $v, document: {}) {id}}',
        'mutation ($v: JSON!) {createPreset(kind: "scenario", name: "n", document: $v) {id}}',
        'mutation ($v: ID!) {updatePreset(id: $v, version: 1, name: "n", document: {}) {id}}',
        "mutation ($v: ID!) {deletePreset(id: $v, version: 1)}",
        f'mutation ($v: Int!) {{deletePreset(id: "{NOBODY}", version: $v)}}',
        "query ($v: Int!) {plans(first: $v) {pageInfo {hasNextPage}}}",
        "query ($v: String!) {planThrottle(gameStateInput: {playerUnits: [], enemyUnits: []}, strategy: $v) {score}}",
    ]
    for query in fields:
        for name, text in {**STRINGS, **OUT_OF_RANGE, **NO_NUMBERS}.items():
            body = written({"query": query, "variables": {"v": ""}}, ("variables", "v"), text)
            answer = sequencer.client.post("/graphql", content=body, headers=JSON)
            assert UNEXPECTED not in graphql_codes(answer), (query, name, answer.text)


ANY_JSON = ["null", "1", "true", '"x"', "[]", "[1]", "{}", '"\\ud800"', '"\\u0000"', "NaN", "1e999"]


def test_in_place_of_an_operation(sequencer: Sequencer) -> None:
    good: dict[str, Any] = {"query": "{version{name}}", "variables": {}, "operationName": None, "extensions": {}}
    for what, content in {**NO_JSON, **SHAPES}.items():
        answer = sequencer.client.post("/graphql", content=content, headers=JSON)
        assert 400 <= answer.status_code < 500, (what, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    for key in good:
        for text in ANY_JSON:
            body = written(good, (key,), text)
            assert UNEXPECTED not in graphql_codes(sequencer.client.post("/graphql", content=body, headers=JSON)), body


def test_in_the_query_of_a_get(sequencer: Sequencer) -> None:
    for key in ("query", "variables", "operationName", "extensions"):
        for value in [
            *ANY_JSON,
            *(text.decode("latin-1") for text in NO_JSON.values() if len(text) < 1000),
            "%ff",
            "[" * 5000,
        ]:
            parameters = {"query": "{version{name}}", key: value}
            answer = sequencer.client.get("/graphql", params=parameters, headers={"Accept": "application/json"})
            assert UNEXPECTED not in graphql_codes(answer), (key, value, answer.text)
    assert sequencer.client.get("/graphql?query=%ff%fe", headers={"Accept": "application/json"}).status_code < 500


TRANSPORT, LEGACY = "graphql-transport-ws", "graphql-ws"


def messages(protocol: str) -> Iterable[dict[str, Any]]:
    payload = {"query": "{version{name}}", "variables": {}, "operationName": "a", "extensions": {}}
    yield {"type": "connection_init", "payload": {"Authorization": "Bearer ada"}}
    yield {"type": "subscribe" if protocol == TRANSPORT else "start", "id": "1", "payload": payload}
    yield {"type": "complete" if protocol == TRANSPORT else "stop", "id": "1"}
    yield {"type": "ping" if protocol == TRANSPORT else "connection_terminate", "payload": {"a": 1}}
    if protocol == TRANSPORT:
        yield {"type": "pong", "payload": {"a": 1}}


def last_words(sequencer: Sequencer, protocol: str, *frames: bytes | str) -> list[Any]:
    """Send frames, then a message that no protocol knows; return all answers, the code of the close as the last."""
    answers: list[Any] = []
    url = sequencer.url.replace("http", "ws") + "/graphql"
    with connect(url, subprotocols=[Subprotocol(protocol)]) as opened:
        try:
            for frame in (*frames, "[]"):
                opened.send(frame)
            while True:
                answers.append(json.loads(opened.recv(timeout=10)))
        except ConnectionClosed as closed:
            return [*answers, closed.rcvd and closed.rcvd.code]


CLOSES = {1000, 1007, 1009, 1011, 4400, 4401, 4403, 4408, 4409, 4429}


@pytest.mark.parametrize("protocol", [TRANSPORT, LEGACY])
@pytest.mark.parametrize("is_known", [True, False], ids=["after the introduction", "before it"])
def test_in_every_field_of_a_message(sequencer: Sequencer, protocol: str, is_known: bool) -> None:
    first = [json.dumps({"type": "connection_init"})] if is_known else []
    for message in messages(protocol):
        paths = [(key,) for key in message] + [("payload", key) for key in message.get("payload", {})]
        for path in paths:
            for text in ANY_JSON:
                frame = written(message, path, text).decode()
                answers = last_words(sequencer, protocol, *first, frame)
                assert answers[-1] in CLOSES, (frame, answers)
                assert UNEXPECTED not in json.dumps(answers), (frame, answers)


@pytest.mark.parametrize("protocol", [TRANSPORT, LEGACY])
def test_in_place_of_a_message(sequencer: Sequencer, protocol: str) -> None:
    texts = [text.decode("latin-1") for text in (*NO_JSON.values(), *SHAPES.values()) if len(text) < 64_000]
    deep = "[" * 30_000
    frames: list[str | bytes] = [*texts, deep, deep + "]" * 30_000, b"{}", b"\xff", b""]
    for frame in frames:
        assert last_words(sequencer, protocol, frame)[-1] in CLOSES, frame[:100]
    assert last_words(sequencer, protocol, '"' + "x" * 70_000 + '"')[-1] == 1009
