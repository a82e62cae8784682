"""What one client may take of a server, by sockets and by event streams: more is refused, and the server told so."""

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import httpx2
import pytest
from api_server.graphql.open_sockets import OpenSockets, SocketLimits
from api_server.services.di import get_registry
from api_server.socket_protocol import BoundedSocketProtocol
from live_app import Served, alive, served
from watchers import LEGACY, SSE, TRANSPORT, introduced, message_of, start, watching
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame
from websockets.typing import Origin, Subprotocol

BIG = "subscription { ticks(intervalMs: 0, size: 20000) }"
QUIET = "subscription { ticks(intervalMs: 60000) }"
CHANGE = "mutation { change(seconds: 0.2) }"


@pytest.fixture(params=[TRANSPORT, LEGACY])
def protocol(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=[TRANSPORT, LEGACY, SSE])
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def service() -> AsyncIterator[Served]:
    async with served() as running:
        yield running


async def heard(connection: ClientConnection) -> list[Any]:
    """Return all that a socket says until it closes, and with which code and reason it does."""
    answers: list[Any] = []
    try:
        async with asyncio.timeout(5):
            while True:
                answers.append(json.loads(await connection.recv()))
    except ConnectionClosed as closed:
        return [*answers, closed.rcvd and (closed.rcvd.code, closed.rcvd.reason)]


def refused(protocol: str, close_code: int, reason: str, **more: str) -> list[Any]:
    """Return how a socket is closed, in the words of its protocol."""
    words = [{"type": "connection_error", "payload": {"message": reason, **more}}] if protocol == LEGACY else []
    return [*words, (close_code, reason)]


async def test_an_operation_too_many_is_an_error_and_the_socket_goes_on(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_SERVER_GRAPHQL_SOCKET_OPERATIONS", "3")
    async with served() as service, introduced(service.port, protocol) as connection:
        for name in ("one", "two", "three", "four"):
            await start(connection, protocol, QUIET, name)
        error = await message_of(connection)
        assert (error["type"], error["id"]) == ("error", "four")
        (problem,) = error["payload"] if protocol == TRANSPORT else [error["payload"]]
        assert problem["extensions"] == {"code": "TOO_MANY_OPERATIONS"}
        assert get_registry().get(OpenSockets).operations == 3
        await connection.send(json.dumps({"id": "one", "type": "complete" if protocol == TRANSPORT else "stop"}))
        await service.is_left((sys.maxsize, sys.maxsize, 2, 2), 2)
        await start(connection, protocol, "subscription { ticks(number: 1) }", "five")
        while (answer := await message_of(connection))["id"] != "five":
            assert answer == {"type": "complete", "id": "one"}
        assert answer["payload"]["data"] == {"ticks": "0"}


async def test_a_mutation_that_was_stopped_counts_until_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_SERVER_GRAPHQL_SOCKET_OPERATIONS", "1")
    async with served() as service, introduced(service.port, TRANSPORT) as connection:
        await start(connection, TRANSPORT, CHANGE, "one")
        await changes_begun(1)
        await connection.send(json.dumps({"id": "one", "type": "complete"}))
        await start(connection, TRANSPORT, CHANGE, "two")
        assert (await message_of(connection))["type"] == "error"
        await changes_made(1)
        await start(connection, TRANSPORT, CHANGE, "two")
        assert (await message_of(connection))["payload"] == {"data": {"change": "changed"}}


async def test_who_has_too_many_sockets_gets_no_further_one_but_others_do(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_SERVER_GRAPHQL_PRINCIPAL_SOCKETS", "3")
    reason = "3 sockets and event streams are open; close one first"
    async with served() as service, AsyncExitStack() as clients:
        held = [await clients.enter_async_context(watching(service.port, each)) for each in (TRANSPORT, LEGACY, SSE)]
        await service.subscriptions_begun(3)
        if transport == SSE:
            async with httpx2.AsyncClient() as http:
                answer = await http.post(
                    f"http://127.0.0.1:{service.port}/graphql",
                    json={"query": QUIET},
                    headers={"Accept": "text/event-stream"},
                )
            assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
            assert (answer.json()["code"], answer.json()["detail"]) == ("RATE_LIMITED", reason)
        else:
            assert await answered(service.port, transport, None) == refused(
                transport, 1013, reason, code="RATE_LIMITED"
            )
        async with watching(service.port, transport, authorization="Bearer somebody-else") as client:
            assert await client.receive()
        open_sockets = get_registry().get(OpenSockets)
        async with asyncio.timeout(2):
            while [open_sockets.sockets(each) for each in (TRANSPORT, LEGACY, SSE)] != [1, 1, 1]:
                await asyncio.sleep(0.002)
        await held[0].ways["gone"]()
        await service.is_left((sys.maxsize, sys.maxsize, 2, 2), 2)
        async with watching(service.port, transport) as client:
            assert await client.receive()


async def answered(port: int, protocol: str, authorization: str | None) -> list[Any]:
    """Introduce oneself, and return all that is heard."""
    async with connect(f"ws://127.0.0.1:{port}/graphql", subprotocols=[Subprotocol(protocol)]) as connection:
        payload = {"authorization": authorization} if authorization else {}
        await connection.send(json.dumps({"type": "connection_init", "payload": payload}))
        return await heard(connection)


async def test_strangers_get_no_socket_while_too_many_others_are_strangers(service: Served) -> None:
    get_registry().get(OpenSockets).limits = SocketLimits(strangers=2)
    url = f"ws://127.0.0.1:{service.port}/graphql"
    subprotocols = [Subprotocol(TRANSPORT)]
    async with connect(url, subprotocols=subprotocols) as first, connect(url, subprotocols=subprotocols):
        with pytest.raises(InvalidStatus) as refusal:
            await (await connect(url, subprotocols=subprotocols)).close()
        assert refusal.value.response.status_code == 503
        assert refusal.value.response.headers["Retry-After"] == "1"
        await first.send(json.dumps({"type": "connection_init"}))
        await message_of(first)
        async with introduced(service.port, TRANSPORT):
            pass


async def test_strangers_keep_nobody_out_who_is_known_already(service: Served) -> None:
    get_registry().get(OpenSockets).limits = SocketLimits(strangers=0)
    url = f"ws://127.0.0.1:{service.port}/graphql"
    with pytest.raises(InvalidStatus):
        await (await connect(url, subprotocols=[Subprotocol(TRANSPORT)])).close()
    async with watching(service.port, SSE) as client:
        assert await client.receive()
    for protocol in (TRANSPORT, LEGACY):
        async with introduced(service.port, protocol, additional_headers={"Authorization": "Bearer ada"}):
            pass


async def test_a_frame_that_is_no_text_is_refused_in_the_words_of_its_protocol(service: Served, protocol: str) -> None:
    async with introduced(service.port, protocol) as connection:
        await connection.send(b"{}")
        assert await heard(connection) == refused(protocol, 4400, "WebSocket message must be valid JSON")


async def test_a_flood_of_messages_closes_the_socket(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_SERVER_GRAPHQL_SOCKET_MESSAGES", "20")
    message = json.dumps({"type": "ping"} if protocol == TRANSPORT else {"type": "stop", "id": "1"})
    async with served() as service, introduced(service.port, protocol) as connection:
        # It may be closed before the last of them is sent.
        with suppress(ConnectionClosed):
            for _ in range(200):
                await connection.send(message)
        *pongs, _ = answers = await heard(connection)
        assert answers[-1] == (1008, "Too many messages")
        assert sum(answer == {"type": "pong"} for answer in pongs) < 60


def frame(opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    """Return a frame as clients mask it; by zeros, so that it stays as it is."""
    return bytes([(0x80 if final else 0) | opcode, 0x80 | len(payload)]) + bytes(4) + payload


PING, TEXT, CONTINUATION = frame(9), frame(1, b"1"), frame(0, final=False)


async def test_a_flood_of_control_frames_closes_the_socket(service: Served, protocol: str) -> None:
    for flood in (PING * 40_000, frame(10) * 40_000, frame(1, b'"', final=False) + CONTINUATION * 40_000):
        async with introduced(service.port, protocol) as connection:
            connection.transport.write(flood)
            # What was on its way when the server closed makes the kernel reset the connection.
            assert (await heard(connection))[-1] in ((1008, "Too many frames"), None)


class Watched(BoundedSocketProtocol):
    """Knows how many messages waited for the application at most."""

    most_waiting = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        Watched.most_waiting = max(Watched.most_waiting, self.queue.qsize())


async def test_of_many_small_messages_at_once_few_are_read_before_they_are_taken(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watched, "most_waiting", 0)
    async with served(ws=Watched) as service, introduced(service.port, protocol) as connection:
        connection.transport.write(TEXT * 37_000)
        assert (await heard(connection))[-1] in ((4400, "Invalid message"), None)
    assert 1 < Watched.most_waiting < 1000


async def test_who_asks_for_too_many_answers_and_takes_none_is_cut_off(service: Served, protocol: str) -> None:
    before = service.footprint
    async with unread(service, protocol) as connection:
        begun = time.monotonic()
        connection.transport.write(PING * 40_000)
        await service.is_left((before[0], before[1] + 1, 0, 0), 2)
        assert time.monotonic() - begun < 2, "the kernel would take 20 s"


class Pinged(BoundedSocketProtocol):
    """Knows how many pings and pongs came while nothing could be sent."""

    waiting = 0

    def handle_ping(self) -> None:
        super().handle_ping()
        Pinged.waiting += not self.writable.is_set()

    def handle_pong(self, event: Frame) -> None:
        super().handle_pong(event)
        Pinged.waiting += not self.writable.is_set()


async def test_who_reads_slowly_may_ask_and_answer_whether_somebody_is_there(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pinged, "waiting", 0)
    async with served(ws=Pinged) as service, unread(service, protocol) as connection:
        answers = [await connection.ping() for _ in range(3)]
        connection.transport.write(frame(10))
        async with asyncio.timeout(5):
            while Pinged.waiting < 4:
                await asyncio.sleep(0.002)
            connection.transport.resume_reading()
            async for _ in connection:
                if all(answer.done() for answer in answers):
                    break
        assert all(answer.done() for answer in answers)


@asynccontextmanager
async def unread(service: Served, transport: str) -> AsyncIterator[Any]:
    """Hold a client that takes nothing, once the server has no room left for what it does not take."""
    if transport == SSE:
        client = socket.create_connection(("127.0.0.1", service.port))
        with client:
            body = json.dumps({"query": BIG}).encode()
            client.sendall(
                b"POST /graphql HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            await service.subscriptions_begun(1)
            await service.is_left((sys.maxsize, sys.maxsize, sys.maxsize, 0), 5)
            yield client
        return
    async with introduced(service.port, transport, ping_interval=None) as connection:
        connection.transport.pause_reading()
        await start(connection, transport, BIG)
        await service.subscriptions_begun(1)
        # Its patience has ended then.
        await service.is_left((sys.maxsize, sys.maxsize, sys.maxsize, 0), 5)
        yield connection
        connection.transport.abort()


@pytest.mark.parametrize("transport", [TRANSPORT, SSE, pytest.param(LEGACY, marks=pytest.mark.slow)])
async def test_who_takes_nothing_is_gone_in_time_and_all_that_was_held_for_them(transport: str) -> None:
    async with served(unread_within=0.7) as service:
        before = service.footprint
        async with unread(service, transport):
            # One descriptor is the client's own.
            await service.is_left((before[0] + 1, before[1] + 1, 0, 0), 5)
            async with asyncio.timeout(2):
                while get_registry().get(OpenSockets).operations:
                    await asyncio.sleep(0.002)


@pytest.mark.parametrize("protocol", [TRANSPORT, pytest.param(LEGACY, marks=pytest.mark.slow)])
async def test_who_answers_no_ping_is_gone_in_time_though_nothing_can_be_sent_to_them(protocol: str) -> None:
    async with served(ws_ping_interval=0.5, ws_ping_timeout=0.2) as service:
        before = service.footprint
        async with unread(service, protocol):
            await service.is_left((before[0] + 1, before[1] + 1, 0, 0), 5)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "connection_init", "payload": 1},
        {"type": "ping", "payload": []},
        {"type": "stop", "id": "x" * 257},
        {"type": "subscribe", "id": "x" * 257, "payload": {"query": "{hello}"}},
        {"type": "start", "id": "1", "payload": {"query": "{hello}", "extensions": 1}},
    ],
)
async def test_a_message_with_a_field_of_another_shape_closes_the_socket(
    service: Served, protocol: str, message: dict[str, Any]
) -> None:
    if message["type"] in ("subscribe", "start"):
        message = {**message, "type": "subscribe" if protocol == TRANSPORT else "start"}
    async with introduced(service.port, protocol) as connection:
        await connection.send(json.dumps(message))
        assert await heard(connection) == refused(protocol, 4400, "Invalid message")


async def test_the_reason_for_closing_a_socket_repeats_little(service: Served) -> None:
    async with introduced(service.port, TRANSPORT) as connection:
        await connection.send(json.dumps({"type": "ö" * 9_000}))
        ((code, reason),) = await heard(connection)
        assert (code, len(reason.encode()) <= 123) == (4400, True)


async def test_a_mutation_goes_on_when_its_client_leaves(service: Served, caplog: pytest.LogCaptureFixture) -> None:
    for number, transport in enumerate((TRANSPORT, SSE), 1):
        async with watching(service.port, transport, CHANGE) as client:
            await changes_begun(number)
            await client.ways["reset"]()
            await changes_made(number)
    await service.is_left((sys.maxsize, sys.maxsize, 0, 0), 2)
    assert "Traceback" not in caplog.text


async def changes_begun(number: int) -> None:
    async with asyncio.timeout(5):
        while alive.changes_begun < number:
            await asyncio.sleep(0.002)


async def changes_made(number: int) -> None:
    async with asyncio.timeout(5):
        while alive.changes_made < number:
            await asyncio.sleep(0.002)


@pytest.mark.slow
async def test_a_thousand_resets_leave_the_house_as_it_was_and_no_traceback(
    service: Served, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = service.footprint
    for _ in range(20):
        async with AsyncExitStack() as clients:
            watchers = [await clients.enter_async_context(watching(service.port, protocol)) for _ in range(50)]
            for client in watchers:
                await client.ways["reset"]()
    await service.is_left(before, 5)
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_pages_of_the_origins_that_may_ask_get_sockets_and_others_do_not(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_SERVER_CORS_ORIGINS", "http://page.example")
    async with served() as service:
        async with introduced(service.port, protocol, origin=Origin("http://page.example")):
            pass
        with pytest.raises(InvalidStatus) as refusal:
            async with introduced(service.port, protocol, origin=Origin("http://elsewhere.example")):
                pass
        assert refusal.value.response.status_code == 403
