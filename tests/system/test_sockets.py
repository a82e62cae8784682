"""GraphQL over WebSocket: the same schema, the same identity, refused in the protocol's own words."""

import json
from typing import Any

import pytest
from sequencer_process import Sequencer, StartSequencer
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

TRANSPORT, LEGACY = "graphql-transport-ws", "graphql-ws"
INIT = {"type": "connection_init"}


def operation(protocol: str, query: str = "{version{name}}") -> dict[str, Any]:
    kind = "subscribe" if protocol == TRANSPORT else "start"
    return {"id": "1", "type": kind, "payload": {"query": query}}


@pytest.fixture(params=[TRANSPORT, LEGACY])
def protocol(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def development(start_sequencer: StartSequencer, no_database: dict[str, str]) -> Sequencer:
    return start_sequencer(**no_database)


@pytest.fixture
def production(start_sequencer: StartSequencer) -> Sequencer:
    return start_sequencer(ENV_TYPE="production")


def converse(
    sequencer: Sequencer, *messages: Any, protocol: str = TRANSPORT, headers: dict[str, str] | None = None
) -> list[Any]:
    """Send these messages, each answered by one, and return the answers; a close is an answer too."""
    url = sequencer.url.replace("http", "ws") + "/graphql"
    answers: list[Any] = []
    with connect(url, subprotocols=[Subprotocol(protocol)], additional_headers=headers) as socket:
        assert socket.response is not None
        assert socket.response.headers["X-Request-ID"]
        try:
            for message in messages:
                socket.send(message if isinstance(message, str) else json.dumps(message))
                answers.append(json.loads(socket.recv(timeout=5)))
            if answers[-1].get("type") == "connection_error":
                answers.append(json.loads(socket.recv(timeout=5)))
        except ConnectionClosed as closed:
            answers.append(closed.rcvd.code if closed.rcvd else None)
    return answers


def test_an_operation_over_a_socket_answers_as_over_http(development: Sequencer) -> None:
    acknowledged, answer = converse(development, INIT, operation(TRANSPORT))
    assert acknowledged == {"type": "connection_ack"}
    assert answer["payload"]["data"] == {"version": {"name": "throttling_sequencer"}}


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
