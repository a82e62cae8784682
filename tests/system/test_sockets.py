"""GraphQL over WebSocket: the same schema, the same identity, refused in the protocol's own words."""

import json
from typing import Any

import pytest
from sequencer_process import Sequencer, StartSequencer
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

PROTOCOLS = ["graphql-transport-ws"]
QUERY = {"id": "1", "type": "subscribe", "payload": {"query": "{version{name}}"}}


@pytest.fixture
def development(start_sequencer: StartSequencer, no_database: dict[str, str]) -> Sequencer:
    return start_sequencer(**no_database)


@pytest.fixture
def production(start_sequencer: StartSequencer) -> Sequencer:
    return start_sequencer(ENV_TYPE="production")


def converse(sequencer: Sequencer, *messages: Any, headers: dict[str, str] | None = None) -> list[Any]:
    """Send these messages, each answered by one, and return the answers; a close is an answer too."""
    url = sequencer.url.replace("http", "ws") + "/graphql"
    answers: list[Any] = []
    protocols = [Subprotocol(name) for name in PROTOCOLS]
    with connect(url, subprotocols=protocols, additional_headers=headers) as socket:
        assert socket.response is not None
        assert socket.response.headers["X-Request-ID"]
        try:
            for message in messages:
                socket.send(json.dumps(message))
                answers.append(json.loads(socket.recv(timeout=5)))
        except ConnectionClosed as closed:
            answers.append(closed.rcvd.code if closed.rcvd else None)
    return answers


def test_an_operation_over_a_socket_answers_as_over_http(development: Sequencer) -> None:
    acknowledged, answer = converse(development, {"type": "connection_init"}, QUERY)
    assert acknowledged == {"type": "connection_ack"}
    assert answer["payload"]["data"] == {"version": {"name": "throttling_sequencer"}}


@pytest.mark.parametrize("payload", [None, {}, {"Authorization": "Bearer x"}, {"authorization": 1}])
def test_production_without_a_provider_refuses_every_socket(production: Sequencer, payload: Any) -> None:
    message = {"type": "connection_init"} | ({"payload": payload} if payload is not None else {})
    assert converse(production, message) == [4403]
    assert converse(production, message, headers={"Authorization": "Bearer x"}) == [4403]
    assert "Traceback" not in production.service.log


def test_credentials_that_cannot_be_read_are_refused_in_development_too(development: Sequencer) -> None:
    init = {"type": "connection_init", "payload": {"authorization": "Basic !!"}}
    assert converse(development, init) == [4403]
    assert converse(development, {"type": "connection_init"}, headers={"Authorization": "nonsense"}) == [4403]


def test_asking_before_introducing_oneself_is_refused(production: Sequencer) -> None:
    assert converse(production, QUERY) == [4401]
