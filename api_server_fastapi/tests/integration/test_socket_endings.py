"""Sockets and event streams that end while operations run: each operation is told why, in the protocol's words."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from api_server.exceptions import IdentityUnavailableError, NotAuthenticatedError
from api_server.graphql.open_sockets import OpenSockets
from api_server.identity import Credentials, Principal
from api_server.services.di import get_draining, get_registry
from live_app import Served, alive, served
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs
from watchers import LEGACY, SSE, TRANSPORT, introduced, message_of, start
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

QUIET = "subscription { ticks(intervalMs: 60000) }"
EXPIRED = "The credentials have expired."
DRAINING = "The server is about to stop; connect again."


class ShortLived:
    """Believes everybody, for as many seconds as their token says; `away` is told that nobody knows just now.

    Who says nothing else is somebody; after a colon a token may name another.
    """

    challenge = "Bearer"

    async def authenticate(self, credentials: Credentials | None) -> Principal:
        if credentials is None:
            raise NotAuthenticatedError("Say for how long.")
        if credentials.value == "away":
            raise IdentityUnavailableError("the provider does not answer")
        duration, _, name = credentials.value.partition(":")
        expires_at = None if duration == "for-ever" else time.time() + float(duration)
        return Principal(name or "somebody", frozenset({"*"}), expires_at)

    async def aclose(self) -> None:
        """Nothing is held."""


@pytest.fixture(params=[TRANSPORT, LEGACY])
def protocol(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=[TRANSPORT, LEGACY, SSE])
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr("api_server.app.authenticator_of", lambda settings: ShortLived())
    async with served() as running:
        yield running


@dataclass
class End:
    """What a client hears of the end of two operations, or of an event stream, and the code that closes a socket."""

    codes: list[str]
    close: tuple[int, str] | None
    others: list[Any]


async def end_of(service: Served, transport: str, token: str, header: str | None = None, query: str = QUIET) -> End:
    """Watch until it is over. Over a socket, two operations run."""
    if transport == SSE:
        return await end_of_stream(service, token, query)
    headers = {"Authorization": f"Bearer {header}"} if header else None
    async with introduced(service.port, transport, f"Bearer {token}", additional_headers=headers) as connection:
        for name in "12":
            await start(connection, transport, query, name)
        return await end_of_socket(connection, transport)


async def end_of_socket(connection: ClientConnection, protocol: str) -> End:
    end = End([], None, [])
    try:
        async with asyncio.timeout(5):
            while True:
                message = json.loads(await connection.recv())
                if message["type"] == "error":
                    error = message["payload"][0] if protocol == TRANSPORT else message["payload"]
                    end.codes.append(error["extensions"]["code"])
                else:
                    end.others.append(message)
    except ConnectionClosed as closed:
        end.close = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else None
        return end


async def end_of_stream(service: Served, token: str, query: str) -> End:
    async with httpx2.AsyncClient() as http, asyncio.timeout(5):
        answer = await http.post(
            f"http://127.0.0.1:{service.port}/graphql",
            json={"query": query},
            headers={"Accept": "text/event-stream", "Authorization": f"Bearer {token}"},
        )
    *events, complete, nothing = answer.text.split("\r\n\r\n")
    assert (complete, nothing) == ("event: complete\r\ndata: ", "")
    results = [json.loads(event.removeprefix("event: next\r\ndata: ")) for event in events]
    codes = [error["extensions"]["code"] for result in results for error in result.get("errors", [])]
    return End(codes, None, [result for result in results if "errors" not in result])


def told(transport: str, code: str, close: tuple[int, str]) -> End:
    """Return what is heard where everything ends for this reason."""
    if transport == SSE:
        return End([code], None, [])
    words = {"type": "connection_error", "payload": {"message": close[1], "code": code}}
    return End([code, code], close, [words] if transport == LEGACY else [])


async def test_who_was_believed_for_a_time_is_told_when_it_is_over(service: Served, transport: str) -> None:
    begun = time.monotonic()
    end = await end_of(service, transport, "0.3")
    assert 0.25 < time.monotonic() - begun < 2
    assert end == told(transport, "UNAUTHENTICATED", (4403 if transport == TRANSPORT else 1011, EXPIRED))
    await service.is_left((10**6, 10**6, 0, 0), 2)


async def test_a_socket_that_has_expired_takes_no_further_operation(service: Served, protocol: str) -> None:
    async with introduced(service.port, protocol, "Bearer 0.05") as connection:
        end = await end_of_socket(connection, protocol)
        assert end.close == (4403 if protocol == TRANSPORT else 1011, EXPIRED)
        with pytest.raises(ConnectionClosed):
            await start(connection, protocol, QUIET)
    assert alive.begun == 0


async def test_the_credentials_that_introduce_count_and_not_those_of_the_header(service: Served, protocol: str) -> None:
    assert (await end_of(service, protocol, "0.2", header="for-ever")).codes == ["UNAUTHENTICATED"] * 2
    headers = {"Authorization": "Bearer 0.05"}
    async with introduced(service.port, protocol, "Bearer for-ever", additional_headers=headers) as connection:
        await asyncio.sleep(0.1)
        await start(connection, protocol, "subscription { ticks(number: 1) }")
        assert (await message_of(connection))["payload"]["data"] == {"ticks": "0"}


async def test_lines_of_a_socket_name_whom_its_introduction_names(service: Served, protocol: str) -> None:
    headers = {"Authorization": "Bearer for-ever:proxy"}
    with capture_logs(processors=[merge_contextvars]) as lines:
        async with introduced(service.port, protocol, "Bearer for-ever:ada", additional_headers=headers):
            pass
        async with asyncio.timeout(5):
            while not any(line["event"] == "socket closed" for line in lines):
                await asyncio.sleep(0.001)
    assert [line["user_id"] for line in lines if line["event"] == "socket closed"] == ["ada"]


async def test_who_cannot_be_told_from_others_just_now_is_asked_to_try_again(service: Served, protocol: str) -> None:
    url = f"ws://127.0.0.1:{service.port}/graphql"
    async with connect(url, subprotocols=[Subprotocol(protocol)]) as connection:
        await connection.send(json.dumps({"type": "connection_init", "payload": {"authorization": "Bearer away"}}))
        end = await end_of_socket(connection, protocol)
    assert end.close is not None
    assert end.close[0] == 1013
    codes = [other["payload"]["code"] for other in end.others]
    assert codes == ([] if protocol == TRANSPORT else ["IDENTITY_UNAVAILABLE"])


async def test_whoever_watches_a_server_that_drains_is_told(service: Served, transport: str) -> None:
    watching = asyncio.create_task(end_of(service, transport, "for-ever"))
    await service.subscriptions_begun(1 if transport == SSE else 2)
    get_draining().begin(at_once=True)
    assert await watching == told(transport, "SERVER_DRAINING", (1012, DRAINING))
    await service.is_left((10**6, 10**6, 0, 0), 2)


async def test_a_server_that_drains_takes_nobody_on(service: Served) -> None:
    await get_registry().get(OpenSockets).close()
    url = f"ws://127.0.0.1:{service.port}/graphql"
    with pytest.raises(InvalidStatus) as refusal:
        await (await connect(url, subprotocols=[Subprotocol(TRANSPORT)])).close()
    assert refusal.value.response.status_code == 503
    headers = {"Accept": "text/event-stream", "Authorization": "Bearer for-ever"}
    async with httpx2.AsyncClient() as http:
        answer = await http.post(url.replace("ws", "http", 1), json={"query": QUIET}, headers=headers)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


@pytest.mark.parametrize("transport", [TRANSPORT, SSE])
@pytest.mark.parametrize(("seconds", "is_answered"), [(0.2, True), (1.0, False)])
async def test_a_change_that_is_under_way_is_made_whether_or_not_there_is_time_to_tell(
    service: Served, transport: str, seconds: float, *, is_answered: bool
) -> None:
    query = f"mutation {{ change(seconds: {seconds}) }}"
    watching = asyncio.create_task(end_of(service, transport, "for-ever", query=query))
    changes = 1 if transport == SSE else 2
    async with asyncio.timeout(5):
        while alive.changes_begun < changes:
            await asyncio.sleep(0.002)
    begun = time.monotonic()
    await get_registry().get(OpenSockets).close()
    assert time.monotonic() - begun < 0.9
    end = await watching
    assert end.codes == ([] if is_answered else ["SERVER_DRAINING"] * changes)
    async with asyncio.timeout(5):
        while alive.changes_made < changes:
            await asyncio.sleep(0.002)
