"""Counts the requests that are answered, and measures how long each takes."""

import time
from collections.abc import Callable

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_server.middlewares.route_template import RouteTemplates
from api_server.services.measured import RequestNumbers

# What LogContextMiddleware writes of a client that left before its answer, and what it answers to whatever is raised.
_CLIENT_CLOSED_REQUEST = 499
_FAILED = 500


class MetricsMiddleware:
    """Tells `numbers` of each HTTP request: its method, the template of its route, its status and its duration.

    A stream of events lasts for as long as its client wants: it is counted while it is open, and has no duration.
    """

    def __init__(self, app: ASGIApp, numbers: Callable[[], RequestNumbers]) -> None:
        self.app = app
        self._numbers = numbers
        self._templates: RouteTemplates | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self._templates is None:
            self._templates = RouteTemplates(scope["app"])
        numbers = self._numbers()
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
            status = status or _FAILED
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


def _is_event_stream(message: Message) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in message["headers"])
