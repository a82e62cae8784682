"""Clients that watch a subscription, by each way that there is, and can leave by each."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

TRANSPORT, LEGACY, SSE = "graphql-transport-ws", "graphql-ws", "sse"
TICKS = "subscription { ticks }"


class EndedError(Exception):
    """The stream is over."""


class Leave(Protocol):
    async def __call__(self) -> None: ...


@dataclass
class Client:
    """Somebody who watches, and can leave by each way that there is."""

    receive: Callable[[], Awaitable[Any]]
    ways: dict[str, Leave]


def reset(transport: asyncio.BaseTransport) -> None:
    """Leave by a TCP reset, as a process does whose machine throws its connections away."""
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert isinstance(transport, asyncio.WriteTransport)
    transport.abort()


@asynccontextmanager
async def watching(
    port: int, transport: str, query: str = TICKS, authorization: str | None = None
) -> AsyncIterator[Client]:
    over = (
        _over_http(port, query, authorization)
        if transport == SSE
        else _over_socket(port, transport, query, authorization)
    )
    async with over as client:
        yield client


@asynccontextmanager
async def _over_socket(port: int, protocol: str, query: str, authorization: str | None) -> AsyncIterator[Client]:
    async with introduced(port, protocol, authorization) as connection:
        await start(connection, protocol, query)

        async def gone() -> None:
            connection.transport.abort()

        async def rst() -> None:
            reset(connection.transport)

        async def receive() -> Any:
            return await message_of(connection)

        yield Client(receive, {"close": connection.close, "gone": gone, "reset": rst})


@asynccontextmanager
async def introduced(
    port: int, protocol: str, authorization: str | None = None, **options: Any
) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws://127.0.0.1:{port}/graphql", subprotocols=[Subprotocol(protocol)], **options) as connection:
        payload = {"authorization": authorization} if authorization else {}
        await connection.send(json.dumps({"type": "connection_init", "payload": payload}))
        if (answer := await message_of(connection)) != {"type": "connection_ack"}:
            raise RefusedError(answer)
        yield connection


class RefusedError(Exception):
    """The server did not acknowledge an introduction, and said why."""


async def message_of(connection: ClientConnection) -> Any:
    """Return the next message, which is not long in coming."""
    async with asyncio.timeout(5):
        return json.loads(await connection.recv())


async def start(connection: ClientConnection, protocol: str, query: str, name: str = "1") -> None:
    kind = "subscribe" if protocol == TRANSPORT else "start"
    await connection.send(json.dumps({"id": name, "type": kind, "payload": {"query": query}}))


@asynccontextmanager
async def _over_http(port: int, query: str, authorization: str | None) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    ask_over_http(writer, query, authorization)

    async def receive() -> Any:
        async with asyncio.timeout(5):
            while not (line := await reader.readline()).startswith(b"data: {"):
                if not line:
                    raise EndedError
        return json.loads(line.removeprefix(b"data: "))

    async def gone() -> None:
        writer.close()

    async def rst() -> None:
        reset(writer.transport)

    try:
        yield Client(receive, {"close": gone, "gone": gone, "reset": rst})
    finally:
        writer.close()


def ask_over_http(writer: asyncio.StreamWriter, query: str, authorization: str | None = None) -> None:
    body = json.dumps({"query": query})
    credentials = f"Authorization: {authorization}\r\n" if authorization else ""
    writer.write(
        b"POST /graphql HTTP/1.1\r\nHost: service\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\n"
        + f"{credentials}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
