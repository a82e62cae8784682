"""Frames at random on both socket protocols: each socket closes in the words of its protocol."""

import json
from typing import Any

import pytest
from fuzzing import BOUNDED, SEED
from hypothesis import given, seed
from hypothesis import strategies as st
from sequencer_process import Sequencer
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

pytestmark = pytest.mark.slow

TRANSPORT, LEGACY = "graphql-transport-ws", "graphql-ws"
TYPES = [
    "connection_init",
    "connection_terminate",
    "subscribe",
    "start",
    "complete",
    "stop",
    "ping",
    "pong",
    "next",
    "data",
    "error",
    "ka",
]
QUERIES = ["{version{name}}", "subscription {nothing}", "mutation {deletePreset(id: 1, version: 1)}", "{", ""]

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=10,
)
PAYLOAD = st.fixed_dictionaries(
    {},
    optional={
        "query": st.sampled_from(QUERIES) | ANY,
        "variables": ANY,
        "operationName": ANY,
        "extensions": ANY,
        "Authorization": ANY,
    },
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={"type": st.sampled_from(TYPES) | ANY, "id": st.sampled_from(["1", "2"]) | ANY, "payload": PAYLOAD | ANY},
)
FRAME = st.one_of(MESSAGE.map(json.dumps), ANY.map(json.dumps), st.text(), st.binary())

# Refused by the protocol (4400 to 4429) or by the frame (1007); on the older one credentials are by 1011, and a client
# may end it by its own word (1000).
REFUSALS = {1007, *range(4400, 4430)}
CLOSES = {TRANSPORT: REFUSALS, LEGACY: REFUSALS | {1000, 1011}}


def said(url: str, protocol: str, frames: list[str | bytes]) -> tuple[list[dict[str, Any]], int | None]:
    """Send frames, then one that no protocol knows, and return what was answered and how the socket closed."""
    answers = []
    with connect(url, subprotocols=[Subprotocol(protocol)]) as socket:
        try:
            for frame in (*frames, "[]"):
                socket.send(frame)
            while True:
                answers.append(json.loads(socket.recv(timeout=10)))
        except ConnectionClosed as closed:
            return answers, closed.rcvd.code if closed.rcvd else None


@pytest.mark.parametrize("protocol", [TRANSPORT, LEGACY])
@pytest.mark.parametrize("is_known", [True, False], ids=["after the introduction", "before it"])
def test_every_socket_closes_in_its_own_words(fuzzed: Sequencer, protocol: str, is_known: bool) -> None:
    url = fuzzed.url.replace("http", "ws") + "/graphql"
    first: list[str | bytes] = [json.dumps({"type": "connection_init"})] if is_known else []

    @seed(SEED)
    @BOUNDED
    @given(frames=st.lists(FRAME, max_size=5))
    def speak(frames: list[str | bytes]) -> None:
        answers, code = said(url, protocol, [*first, *frames])
        assert code in CLOSES[protocol], (frames, answers)
        assert "INTERNAL_SERVER_ERROR" not in json.dumps(answers), (frames, answers)

    speak()
