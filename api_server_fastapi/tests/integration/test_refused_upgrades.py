"""Sockets that are asked for in a way that nobody could mean: an answer, and nothing that stays."""

import asyncio
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from api_server.head_limit import ShortHeadProtocol
from api_server.socket_protocol import BoundedSocketProtocol
from api_server.testing import Serve, StartService
from raw_requests import connected, spoken
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

API_SERVER = Path(sys.executable).with_name("api-server")

UPGRADE = (
    b"%b HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%b\r\n"
)
REFUSED = {
    "a long header": (UPGRADE % (b"GET /graphql", b"Cookie: " + b"x" * 9000 + b"\r\n"), 431),
    "many headers": (UPGRADE % (b"GET /graphql", b"".join(b"A%d: b\r\n" % number for number in range(129))), 431),
    "a long path": (UPGRADE % (b"GET /" + b"x" * 9000, b""), 414),
    "a body": (UPGRADE % (b"POST /graphql", b"Content-Length: 5\r\n") + b"hello", 400),
    "a chunked body": (UPGRADE % (b"POST /graphql", b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n", 400),
    "another method": (UPGRADE % (b"POST /graphql", b""), 405),
}

APPLICATION = """
import asyncio

from api_server.application import Application
from fastapi import APIRouter

router = APIRouter()

@router.get("/slow")
async def slow() -> str:
    print("begun", flush=True)
    await asyncio.sleep(1)
    return "done"

APP = Application(name="slow", version="1", routers=lambda: (router,))
"""


@pytest.mark.parametrize("how", REFUSED)
async def test_a_socket_that_is_asked_for_in_no_sensible_way_is_refused(serve: Serve, how: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("nobody asks the application")

    request, status = REFUSED[how]
    async with serve(app, http=ShortHeadProtocol, ws=BoundedSocketProtocol, lifespan="off") as client:
        assert (await spoken(client, request)).startswith(b"HTTP/1.1 %d " % status)


async def test_a_refused_socket_that_stays_open_does_not_keep_the_server_from_stopping(serve: Serve) -> None:
    is_asked = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            is_asked.set()
            await asyncio.sleep(0.2)
            await PlainTextResponse("done")(scope, receive, send)

    async with serve(app, http=ShortHeadProtocol, ws=BoundedSocketProtocol) as client:
        _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(REFUSED["a long header"][0])
        answer = asyncio.create_task(spoken(client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
        await asyncio.wait_for(is_asked.wait(), 5)
    assert (await answer).endswith(b"done")
    writer.close()


async def test_a_socket_with_a_long_head_is_opened_and_what_came_too_early_is_dropped(serve: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})

    cookies = b"".join(b"Cookie: %b\r\n" % (b"x" * 7000) for _ in range(3))
    options = {"http": ShortHeadProtocol, "ws": BoundedSocketProtocol, "lifespan": "off"}
    async with serve(app, **options) as client, connected(client) as (reader, writer), asyncio.timeout(5):
        writer.write(UPGRADE % (b"GET /", cookies) + b"too early" * 2000)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        assert await reader.readexactly(4) == b"\x88\x02\x03\xe8"
        writer.write(b"\x88\x82" + bytes(4) + b"\x03\xe8")
        assert await reader.read() == b""


@pytest.mark.slow
def test_a_process_leaves_in_good_order_beside_a_refused_socket(
    start_service: StartService, tmp_path: Path, unused_tcp_port: int
) -> None:
    (tmp_path / "slow_app.py").write_text(APPLICATION)
    service = start_service(
        [API_SERVER], API_SERVER_APP="slow_app:APP", PYTHONPATH=str(tmp_path), UVICORN_PORT=str(unused_tcp_port)
    )
    service.wait_until_it_answers(f"http://127.0.0.1:{unused_tcp_port}/livez")
    address = ("127.0.0.1", unused_tcp_port)
    with socket.create_connection(address, 10) as refused, socket.create_connection(address, 10) as asking:
        refused.sendall(REFUSED["a long header"][0])
        asking.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        service.wait_until_it_writes("begun")
        service.send(signal.SIGTERM)
        assert asking.recv(1000).startswith(b"HTTP/1.1 200")
    began = time.monotonic()
    assert service.wait() == 0, service.log
    assert time.monotonic() - began < 5
    assert "Traceback" not in service.log
