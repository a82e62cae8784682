"""GraphQL over WebSocket: the same schema, the same identity, refused in the protocol's own words."""

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from sequencer_process import Sequencer, StartSequencer
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

TRANSPORT, LEGACY = "graphql-transport-ws", "graphql-ws"
INIT = {"type": "connection_init"}
UNIT = "{coordinate: {x: 0, y: 0}, speed: 0, mass: 1, friction: 0}"
SLOW_GOALS = (
    f"subscription {{generateSteps(gameStateInput: {{playerUnits: [{UNIT}], enemyUnits: [{UNIT}]}}){{throttle}}}}"
)


def operation(protocol: str, query: str = "{version{name}}") -> dict[str, Any]:
    kind = "subscribe" if protocol == TRANSPORT else "start"
    return {"id": "1", "type": kind, "payload": {"query": query}}


@pytest.fixture(params=[TRANSPORT, LEGACY])
def protocol(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def development(start_shared_sequencer: StartSequencer) -> Sequencer:
    return start_shared_sequencer()


@pytest.fixture(scope="module")
def production(start_shared_sequencer: StartSequencer) -> Sequencer:
    return start_shared_sequencer(ENV_TYPE="production")


def socket_url(sequencer: Sequencer) -> str:
    return sequencer.url.replace("http", "ws") + "/graphql"


def converse(
    sequencer: Sequencer, *messages: Any, protocol: str = TRANSPORT, headers: dict[str, str] | None = None
) -> list[Any]:
    """Send these messages, each answered by one, and return the answers; a close is an answer too."""
    answers: list[Any] = []
    with connect(socket_url(sequencer), subprotocols=[Subprotocol(protocol)], additional_headers=headers) as socket:
        assert socket.response is not None
        assert socket.response.headers["X-Request-ID"]
        try:
            for message in messages:
                socket.send(message if isinstance(message, str | bytes) else json.dumps(message))
                answers.append(json.loads(socket.recv(timeout=5)))
            if answers[-1].get("type") == "connection_error":
                answers.append(json.loads(socket.recv(timeout=5)))
        except ConnectionClosed as closed:
            answers.append(closed.rcvd.code if closed.rcvd else None)
    return answers


def heard(socket: ClientConnection) -> list[Any]:
    """Return all that a socket says until it closes, and with which code it does."""
    answers: list[Any] = []
    try:
        while True:
            answers.append(json.loads(socket.recv(timeout=10)))
    except ConnectionClosed as closed:
        return [*answers, closed.rcvd and closed.rcvd.code]


def test_an_operation_over_a_socket_answers_as_over_http(development: Sequencer) -> None:
    acknowledged, answer = converse(development, INIT, operation(TRANSPORT))
    assert acknowledged == {"type": "connection_ack"}
    assert answer["payload"]["data"] == {"version": {"name": "throttling_sequencer"}}


def test_the_log_has_one_line_about_a_socket(development: Sequencer, protocol: str) -> None:
    with connect(socket_url(development), subprotocols=[Subprotocol(protocol)]) as socket:
        assert socket.response is not None
        request_id = socket.response.headers["X-Request-ID"]
    development.service.wait_until_it_writes(request_id)
    development.client.get("/version")
    (line,) = [line for line in development.server_log if line.get("request_id") == request_id]
    assert (line["event"], line["method"], line["path"]) == ("socket closed", "WEBSOCKET", "/graphql")


def test_the_legacy_protocol_says_that_it_carries_subscriptions_only(development: Sequencer) -> None:
    _, answer = converse(development, INIT, operation(LEGACY), protocol=LEGACY)
    assert (answer["type"], answer["id"]) == ("error", "1")
    assert answer["payload"]["message"] == "A query is not served this way."
    assert answer["payload"]["extensions"] == {"code": "OPERATION_NOT_ALLOWED"}
    assert "Traceback" not in development.service.log


def test_production_without_a_provider_refuses_every_socket(production: Sequencer) -> None:
    bearer = {"Authorization": "Bearer x"}
    for payload in ({}, {"Authorization": "Bearer x"}, {"authorization": 1}):
        init = {**INIT, "payload": payload}
        assert converse(production, init) == [4403]
        assert converse(production, init, headers=bearer) == [4403]
        refused = {"type": "connection_error", "payload": {"code": "UNAUTHENTICATED"}}
        assert converse(production, init, protocol=LEGACY, headers=bearer) == [refused, 1011]
    assert converse(production, INIT) == [4403]
    assert "Traceback" not in production.service.log


def test_credentials_that_cannot_be_read_are_refused_in_development_too(development: Sequencer) -> None:
    assert converse(development, {**INIT, "payload": {"authorization": "Basic !!"}}) == [4403]
    assert converse(development, INIT, headers={"Authorization": "nonsense"}) == [4403]


def test_who_a_socket_s_header_names_is_who_asks_unless_the_introduction_names_another(development: Sequencer) -> None:
    mine = operation(TRANSPORT, "{ requestLog(first: 100) { nodes { userId } } }")
    header = {"Authorization": "Bearer erin"}
    for init, user in ((INIT, "erin"), ({**INIT, "payload": {"Authorization": "Bearer frank"}}, "frank")):
        with connect(
            socket_url(development), subprotocols=[Subprotocol(TRANSPORT)], additional_headers=header
        ) as socket:
            socket.send(json.dumps(init))
            socket.recv(timeout=5)
            users: set[str] = set()
            deadline = time.monotonic() + 5
            while not users:
                assert time.monotonic() < deadline
                socket.send(json.dumps(mine))
                answer = json.loads(socket.recv(timeout=5))
                users = {node["userId"] for node in answer["payload"]["data"]["requestLog"]["nodes"]}
                socket.recv(timeout=5)  # that it is complete
            assert users == {user}


def test_asking_before_introducing_oneself_is_refused(production: Sequencer, protocol: str) -> None:
    assert converse(production, operation(protocol), protocol=protocol) == [4401]


def test_a_frame_that_is_no_message_is_refused_in_the_protocol_s_words(development: Sequencer, protocol: str) -> None:
    kind = operation(protocol)["type"]
    frames: list[Any] = [
        [],
        1,
        None,
        "x",
        {},
        {"type": 1},
        {"id": 1, "type": kind},
        {"id": "1", "type": kind, "payload": None},
        {"id": "1", "type": kind, "payload": {"query": 1}},
        {"id": "1", "type": kind, "payload": {"query": "{x}", "variables": []}},
    ]
    refusal: list[Any] = [4400]
    if protocol == LEGACY:
        refusal.insert(0, {"type": "connection_error", "payload": {"message": "Invalid message"}})
    for frame in frames:
        assert converse(development, INIT, json.dumps(frame), protocol=protocol)[1:] == refusal, frame
    assert "Traceback" not in development.service.log


def test_frames_that_cannot_be_read_are_refused_on_both_protocols(development: Sequencer, protocol: str) -> None:
    refused = {"type": "connection_error", "payload": {"message": "WebSocket message must be valid JSON"}}
    for frame in ("{", '{"type": NaN}', "[" * 20_000, b"{}"):
        *words, code = converse(development, INIT, frame, protocol=protocol)[1:]
        assert (code, words) == (4400, [refused] if protocol == LEGACY else [])
    assert "Traceback" not in development.service.log


def test_text_that_is_no_text_closes_the_socket(development: Sequencer, protocol: str) -> None:
    with connect(socket_url(development), subprotocols=[Subprotocol(protocol)]) as socket:
        socket.send(b"\xff\xfe", text=True)
        assert heard(socket) == [1007]
    assert "Traceback" not in development.service.log


def test_operations_that_cannot_be_told_are_refused_and_no_error_of_the_server(
    development: Sequencer, protocol: str
) -> None:
    two = "query A { version { name } } query B { version { name } }"
    for payload in (
        {"query": ""},
        {"query": two, "operationName": "Z" * 500},
        {"query": "{" + "ö" * 500},
    ):
        message = {**operation(protocol), "payload": payload}
        *words, last = converse(development, INIT, message, protocol=protocol)[1:]
        assert last == 4400 or last["type"] in ("error", "complete"), (words, last)
        if last != 4400:
            (error,) = last["payload"] if protocol == TRANSPORT else [last["payload"]]
            assert error["extensions"]["code"] in ("GRAPHQL_PARSE_FAILED", "OPERATION_NOT_FOUND")
    stop = {"type": "complete" if protocol == TRANSPORT else "stop"}
    assert converse(development, INIT, stop, protocol=protocol)[-1] == 4400
    assert converse(development, {**INIT, "payload": {"authorization": "Basic ö"}}, protocol=protocol)[-1] in (
        4403,
        1011,
    )
    assert "Traceback" not in development.service.log


def test_several_bad_operations_at_once_close_the_socket_once(development: Sequencer) -> None:
    bad = [{**operation(TRANSPORT, "{"), "id": str(number)} for number in range(5)]
    with connect(socket_url(development), subprotocols=[Subprotocol(TRANSPORT)]) as socket:
        # It may be closed before the last of them is sent.
        with suppress(ConnectionClosed):
            for message in (INIT, *bad):
                socket.send(json.dumps(message))
        assert heard(socket)[-1] == 4400
    assert "Traceback" not in development.service.log


def test_an_operation_that_is_stopped_at_once_is_recorded_too(development: Sequencer, protocol: str) -> None:
    name = "Hasty" + protocol.replace("-", "")
    asks = operation(protocol, SLOW_GOALS.replace("subscription", f"subscription {name}"))
    stops = {"id": "1", "type": "complete" if protocol == TRANSPORT else "stop"}
    log = "{ requestLog(first: 100) { nodes { operationName outcome } } }"
    outcomes: list[str] = []
    deadline = time.monotonic() + 5
    with connect(socket_url(development), subprotocols=[Subprotocol(protocol)]) as socket:
        for message in (INIT, asks, stops):
            socket.send(json.dumps(message))
        while not outcomes:
            assert time.monotonic() < deadline
            nodes = development.graphql(log)["data"]["requestLog"]["nodes"]
            outcomes = [node["outcome"] for node in nodes if node["operationName"] == name]
            time.sleep(0.05)
    assert outcomes == ["CANCELLED"]


def test_introducing_oneself_twice_is_too_often(development: Sequencer, protocol: str) -> None:
    *words, code = converse(development, INIT, INIT, protocol=protocol)[1:]
    assert code == 4429
    refused = {"type": "connection_error", "payload": {"message": "Too many initialisation requests"}}
    assert words == ([refused] if protocol == LEGACY else [])


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [TRANSPORT, pytest.param(LEGACY, marks=pytest.mark.slow)])
def test_who_does_not_introduce_themselves_is_not_waited_for(development: Sequencer, protocol: str) -> None:
    begun = time.monotonic()
    with connect(socket_url(development), subprotocols=[Subprotocol(protocol)]) as socket:
        *words, code = heard(socket)
    assert (code, [word["type"] for word in words]) == (4408, ["connection_error"] if protocol == LEGACY else [])
    assert 4.5 < time.monotonic() - begun < 6


def test_the_same_name_for_two_operations_at_once_is_refused(development: Sequencer) -> None:
    """As `graphql-transport-ws` says; the legacy protocol lets the second one take the place of the first."""
    slow = operation(TRANSPORT, SLOW_GOALS)
    with connect(socket_url(development), subprotocols=[Subprotocol(TRANSPORT)]) as socket:
        for message in (INIT, slow, slow):
            socket.send(json.dumps(message))
        assert heard(socket)[-1] == 4409


def test_a_frame_that_is_larger_than_any_operation_closes_the_socket(development: Sequencer, protocol: str) -> None:
    assert converse(development, INIT, "x" * (64 * 1024 + 1), protocol=protocol)[1:] == [1009]


def test_a_page_of_another_origin_gets_no_socket(development: Sequencer, protocol: str) -> None:
    url = socket_url(development)
    with pytest.raises(InvalidStatus) as refused:
        connect(url, subprotocols=[Subprotocol(protocol)], origin=Origin("http://elsewhere.example")).close()
    assert refused.value.response.status_code == 403
    with connect(url, subprotocols=[Subprotocol(protocol)], origin=Origin(development.url)) as socket:
        socket.send(json.dumps(INIT))
        assert json.loads(socket.recv(timeout=5)) == {"type": "connection_ack"}
    assert "Traceback" not in development.service.log


@pytest.mark.parametrize("protocols", [["graphql-sse"], ["soap"], []])
def test_a_protocol_that_is_not_spoken_closes_the_socket(development: Sequencer, protocols: list[str]) -> None:
    with connect(socket_url(development), subprotocols=list(map(Subprotocol, protocols)) or None) as socket:
        assert heard(socket) == [4406]


@pytest.mark.slow
def test_the_legacy_protocol_can_be_switched_off(start_sequencer: StartSequencer, in_memory: dict[str, str]) -> None:
    modern = start_sequencer(**in_memory, API_SERVER_GRAPHQL_LEGACY_SOCKETS="false")
    assert converse(modern, INIT, protocol=LEGACY) == [4406]
    assert converse(modern, INIT, protocol=TRANSPORT) == [{"type": "connection_ack"}]
