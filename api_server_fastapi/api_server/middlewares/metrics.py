"""Counts the requests that are answered and the sockets that are closed, and measures how long answers take."""

import time
from collections.abc import Callable

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_server.middlewares.route_path import route_path
from api_server.middlewares.route_template import RouteTemplates
from api_server.services.measured import RequestNumbers

# What LogContextMiddleware writes of a client that left before its answer, and what it answers to whatever is raised.
_CLIENT_CLOSED_REQUEST = 499
_FAILED = 500
_NORMAL_CLOSURE = 1000


class MetricsMiddleware:
    """Tells `numbers` of each HTTP request: its method, the template of its route, its status and its duration.

    A stream of events lasts for as long as its client wants: it is counted while it is open, and has no duration. An
    answer that fails after its head counts as the failure that it is. Of sockets at `sockets_at` it tells the codes by
    which this side closes them.
    """

    def __init__(self, app: ASGIApp, numbers: Callable[[], RequestNumbers], sockets_at: str = "/graphql") -> None:
        self.app = app
        self._sockets_at = sockets_at
        self._numbers = numbers
        self._templates: RouteTemplates | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and route_path(scope) == self._sockets_at:
            await self.app(scope, receive, _noticing_close(send, self._numbers()))
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await self._count(scope, receive, send, self._numbers())

    async def _count(self, scope: Scope, receive: Receive, send: Send, numbers: RequestNumbers) -> None:
        if self._templates is None:
            self._templates = RouteTemplates(scope["app"])
        status, is_stream = 0, False

        async def notice(message: Message) -> None:
            nonlocal status, is_stream
            if message["type"] == "http.response.start":
                status = message["status"]
                if _is_event_stream(message):
                    is_stream = True
                    numbers.streams += 1
            await send(message)

        numbers.in_progress += 1
        started = time.perf_counter()
        try:
            await self.app(scope, receive, notice)
        except ClientDisconnect:
            status = _CLIENT_CLOSED_REQUEST
            raise
        except Exception:
            status = _FAILED
            raise
        finally:
            seconds = time.perf_counter() - started
            numbers.in_progress -= 1
            numbers.streams -= is_stream
            numbers.answered(
                scope["method"],
                self._templates.of(scope),
                status or _CLIENT_CLOSED_REQUEST,
                None if is_stream else seconds,
            )


def _noticing_close(send: Send, numbers: RequestNumbers) -> Send:
    async def notice(message: Message) -> None:
        if message["type"] == "websocket.close":
            numbers.socket_closed(message.get("code", _NORMAL_CLOSURE))
        elif message["type"] == "websocket.http.response.start":
            numbers.socket_closed(message["status"])
        await send(message)

    return notice


def _is_event_stream(message: Message) -> bool:
    headers = message.get("headers", ())
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)
