"""Subscriptions over real sockets: what a client that leaves, by whatever way, leaves behind is nothing."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from api_server.graphql import event_stream
from live_app import PATIENCE_S, Served, served
from watchers import LEGACY, TICKS, TRANSPORT, ask_over_http, introduced, start, watching

# What the loop needs to notice and to clean up; the promise is 200 ms.
FREED_WITHIN_S = 0.2


@pytest.fixture
async def service() -> AsyncIterator[Served]:
    async with served() as running:
        yield running


@pytest.fixture(params=[TRANSPORT, LEGACY, "sse"])
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.parametrize("way", ["close", "gone", "reset"])
@pytest.mark.parametrize("interval_ms", [0, 10, 60_000])
async def test_a_client_that_leaves_leaves_nothing_behind(
    service: Served, transport: str, way: str, interval_ms: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it leaves between items, while one is sent, or while the source waits."""
    before = service.footprint
    async with watching(service.port, transport, f"subscription {{ ticks(intervalMs: {interval_ms}) }}") as client:
        if interval_ms < 1000:
            await client.receive()
        await service.subscriptions_begun(1)
        await client.ways[way]()
        await service.is_left((sys.maxsize, sys.maxsize, before[2], before[3]), FREED_WITHIN_S)
    await service.is_left(before, 2)
    assert "Traceback" not in caplog.text


async def test_a_hundred_clients_that_vanish_leave_the_house_as_it_was(service: Served, transport: str) -> None:
    async with watching(service.port, transport) as first:
        await first.receive()
        await first.ways["gone"]()
    await service.is_left((sys.maxsize, sys.maxsize, 0, 0), 2)
    await asyncio.sleep(0)
    before = service.footprint
    for number in range(100):
        async with watching(service.port, transport) as client:
            await service.subscriptions_begun(number + 2)
            await client.ways[("close", "gone", "reset")[number % 3]]()
    await service.is_left(before, 2)


@pytest.mark.parametrize(("protocol", "stop"), [(TRANSPORT, "complete"), (LEGACY, "stop")])
async def test_a_client_may_stop_one_subscription_and_keep_another(service: Served, protocol: str, stop: str) -> None:
    async with introduced(service.port, protocol) as connection:
        for name in ("kept", "stopped"):
            await start(connection, protocol, TICKS, name)
        await service.subscriptions_begun(2)
        await connection.send(json.dumps({"id": "stopped", "type": stop}))
        await service.is_left((sys.maxsize, sys.maxsize, 1, 1), FREED_WITHIN_S)
        names: list[str] = []
        async with asyncio.timeout(5):
            while names[-10:] != ["kept"] * 10:
                names.append(json.loads(await connection.recv())["id"])


async def test_a_subscription_that_is_over_frees_what_it_had_before_its_socket_closes(
    service: Served, transport: str
) -> None:
    if transport == "sse":
        async with watching(service.port, transport, "subscription { ticks(number: 2) }") as client:
            assert [await client.receive() for _ in range(2)]
            await service.is_left((sys.maxsize, sys.maxsize, 0, 0), FREED_WITHIN_S)
        return
    async with introduced(service.port, transport) as connection:
        await start(connection, transport, "subscription { ticks(number: 2) }")
        kinds = [json.loads(await connection.recv())["type"] for _ in range(3)]
        assert kinds == ["next" if transport == TRANSPORT else "data"] * 2 + ["complete"]
        await service.is_left((sys.maxsize, sys.maxsize, 0, 0), FREED_WITHIN_S)


async def test_a_client_that_takes_nothing_does_not_keep_its_source(service: Served, transport: str) -> None:
    before = service.footprint
    async with watching(service.port, transport, "subscription { ticks(intervalMs: 0, size: 20000) }") as client:
        await service.subscriptions_begun(1)
        await service.is_left((sys.maxsize, sys.maxsize, sys.maxsize, 0), 20 * PATIENCE_S)
        assert service.footprint[2] == 1, "it is still there, and may hear why it gets no more"
        await client.ways["gone"]()
    await service.is_left(before, 2)


async def test_a_client_that_takes_again_hears_what_waited_and_why_there_is_no_more(service: Served) -> None:
    query = "subscription { ticks(intervalMs: 0, size: 20000) }"
    async with watching(service.port, TRANSPORT, query) as client:
        await service.subscriptions_begun(1)
        await service.is_left((sys.maxsize, sys.maxsize, sys.maxsize, 0), 20 * PATIENCE_S)
        messages: list[Any] = []
        while not messages or messages[-1]["type"] != "complete":
            messages.append(await client.receive())
    *results, last, _ = [message.get("payload") for message in messages]
    ticks = [result["data"]["ticks"] for result in results]
    assert ticks == [f"{number}" * 20_000 for number in range(len(ticks))]
    assert last["errors"][0]["extensions"] == {"code": "CLIENT_TOO_SLOW"}


async def test_a_quiet_stream_over_http_shows_that_it_is_alive(
    service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "_HEARTBEAT_PERIOD_S", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    ask_over_http(writer, "subscription { ticks(intervalMs: 60000) }")
    async with asyncio.timeout(2):
        for _ in range(3):
            await reader.readuntil(b": still here\r\n\r\n")
    writer.close()


async def test_a_server_that_stops_ends_what_is_watched(transport: str) -> None:
    """A socket at once; a stream over HTTP is a request, and gets the time that requests get: 3 s here."""
    async with AsyncExitStack() as clients:
        async with served() as service:
            client = await clients.enter_async_context(watching(service.port, transport))
            await client.receive()
            begun = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - begun < (4 if transport == "sse" else 1)
        await service.is_left((sys.maxsize, sys.maxsize, 0, 0), FREED_WITHIN_S)
