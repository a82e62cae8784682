"""A request that a server which leaves does not wait for is answered; any other cancellation is nobody's answer."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from api_server.middlewares import LogContextMiddleware
from structlog.testing import capture_logs

REQUEST = {"type": "http", "method": "GET", "path": "/", "headers": [], "http_version": "1.1", "scheme": "http"}
SOCKET = {"type": "websocket", "path": "/", "headers": [], "http_version": "1.1", "scheme": "http"}

Say = Callable[[dict[str, Any]], Awaitable[None]]


class Cut:
    """One request, which is cancelled as soon as it waits; what came of it."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.lines: list[Any] = []

    async def by_the_server(
        self, scope: dict[str, Any], *, is_leaving: bool = True, begun: dict[str, Any] | None = None
    ) -> None:
        """Have the task cancelled, as uvicorn does; raises what the task raises."""
        waits = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Say) -> None:
            if begun:
                await send(begun)
            waits.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(self.asked(app, scope, is_leaving=is_leaving))
        await waits.wait()
        task.cancel()
        await task

    async def asked(self, app: Any, scope: dict[str, Any], *, is_leaving: bool) -> None:
        async def receive() -> Any:
            raise AssertionError

        async def send(message: Any) -> None:
            await asyncio.sleep(0)
            self.sent.append(message)

        with capture_logs() as self.lines:
            await LogContextMiddleware(app, is_leaving=lambda: is_leaving)({**scope}, receive, send)


async def test_it_is_told_to_ask_again_and_has_its_line() -> None:
    cut = Cut()
    await cut.by_the_server(REQUEST)
    start, body = cut.sent
    headers = dict(start["headers"])
    assert (start["status"], headers[b"retry-after"], headers[b"connection"]) == (503, b"1", b"close")
    assert headers[b"content-type"] == b"application/problem+json"
    assert json.loads(body["body"])["code"] == "SERVICE_UNAVAILABLE"
    assert [(line["log_level"], line["event"], line["status"]) for line in cut.lines] == [
        ("info", "request answered", 503)
    ]


async def test_an_answer_that_has_begun_is_not_completed_and_has_its_line() -> None:
    cut = Cut()
    await cut.by_the_server(REQUEST, begun={"type": "http.response.start", "status": 200})
    assert [message["status"] for message in cut.sent] == [200]
    assert [line["status"] for line in cut.lines] == [200]


@pytest.mark.parametrize("begun", [None, {"type": "websocket.accept"}])
async def test_a_socket_is_closed_as_by_a_restart(begun: dict[str, Any] | None) -> None:
    cut = Cut()
    await cut.by_the_server(SOCKET, begun=begun)
    assert (cut.sent[-1]["type"], cut.sent[-1]["code"]) == ("websocket.close", 1012)
    assert [(line["event"], line["status"]) for line in cut.lines] == [("socket closed", 1012)]


async def test_while_nobody_leaves_whoever_cancels_has_it() -> None:
    cut = Cut()
    with pytest.raises(asyncio.CancelledError):
        await cut.by_the_server(REQUEST, is_leaving=False)
    assert cut.sent == []


async def test_what_was_cancelled_inside_is_not_the_servers_doing() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    cut = Cut()
    with pytest.raises(asyncio.CancelledError):
        await cut.asked(app, REQUEST, is_leaving=True)
    assert cut.sent == []
