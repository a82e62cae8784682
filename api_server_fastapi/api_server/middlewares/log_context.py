"""The outermost middleware: names each request, writes one line about it, and survives whatever is inside."""

import asyncio
import re
import time
from collections.abc import Callable, Collection
from functools import lru_cache
from ipaddress import ip_address
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_server.middlewares.route_path import route_path
from api_server.middlewares.security_headers import SecurityHeadersMiddleware
from api_server.problem_details import problem_response

_CORRELATION_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)

# Of a path, which may be as long as a client likes, a line of the log holds so much.
_MOST_OF_PATH = 256

_LONGEST_ADDRESS = 64

# What nginx made customary for a client that left before its answer.
_CLIENT_CLOSED_REQUEST = 499

# What another process needs to take over, at most, before whoever was cut off asks again.
_RETRY_AFTER_S = 1
_SERVICE_RESTART = 1012

log = structlog.get_logger("api_server.request")


class LogContextMiddleware:
    """Gives each request and socket an id of its own, bound to every log line and sent back as `X-Request-ID`.

    A client's own `X-Request-ID` of at most 64 letters, digits and `_ . : -` is kept as the correlation: it is
    logged beside the id and sent back as `X-Correlation-ID`. The line about a request names the client's address: that
    of the connection, or what a trusted proxy says of it. Lines about `quiet_paths` are written at debug level.

    A request that the server cuts off while it `is_leaving` is answered by 503, unless its answer has begun.
    """

    def __init__(
        self, app: ASGIApp, quiet_paths: Collection[str] = (), is_leaving: Callable[[], bool] = lambda: False
    ) -> None:
        self.app = app
        self.quiet_paths = frozenset(quiet_paths)
        self.is_leaving = is_leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        request_id = uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        identifiers = {"request_id": request_id}
        given = Headers(scope=scope).get("x-request-id", "")
        if _CORRELATION_ID.fullmatch(given):
            identifiers["correlation_id"] = given
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**identifiers)
        answer = _Answer(send, identifiers)
        started = time.perf_counter()
        try:
            await self.app(scope, receive, answer.send)
        except ClientDisconnect:
            answer.status = _CLIENT_CLOSED_REQUEST
        except asyncio.CancelledError:
            task = asyncio.current_task()
            # One that nobody asked of this task is an error inside; and only a server that leaves means that by it.
            if task is None or not task.cancelling() or not self.is_leaving():
                raise
            task.uncancel()
            await _answer_cut_off(scope, receive, answer)
        # The edge: whatever went wrong inside, the client gets an answer with an id, and the log has it.
        except Exception:
            log.exception("request failed", path=_path(scope), error_id=request_id)
            await _answer_failure(scope, receive, answer, request_id)
        self._write_line(scope, answer, time.perf_counter() - started)

    def _write_line(self, scope: Scope, answer: "_Answer", seconds: float) -> None:
        write = log.debug if route_path(scope) in self.quiet_paths else log.info
        event = "request answered" if scope["type"] == "http" else "socket closed"
        write(
            event,
            method=scope.get("method", "WEBSOCKET"),
            path=_path(scope),
            client=_client(scope),
            status=answer.status,
            duration_ms=round(seconds * 1000, 3),
        )


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path if len(path) <= _MOST_OF_PATH else f"{path[:_MOST_OF_PATH]}…"


def _client(scope: Scope) -> str | None:
    """Return the client's address, None where it is none: a proxy passes on whatever somebody told it."""
    host, _ = scope.get("client") or ("", 0)
    return _address(host) if len(host) <= _LONGEST_ADDRESS else None


@lru_cache(maxsize=1024)
def _address(host: str) -> str | None:
    try:
        # What follows a % is the name of an interface, of which anything is believed.
        return str(ip_address(host.partition("%")[0]))
    except ValueError:
        return None


class _Answer:
    """Passes messages on, adds the identifiers to the head and remembers the status or close code."""

    def __init__(self, send: Send, identifiers: dict[str, str]) -> None:
        self._send = send
        self._identifiers = identifiers
        self.started = False
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start" | "websocket.http.response.start":
                self.started, self.status = True, message["status"]
                self._add_headers(message)
            case "websocket.accept":
                self.started = True
                self._add_headers(message)
            case "websocket.close":
                self.started, self.status = True, message.get("code", 1000)
        await self._send(message)

    def _add_headers(self, message: Message) -> None:
        message.setdefault("headers", [])
        headers = MutableHeaders(scope=message)
        headers["X-Request-ID"] = self._identifiers["request_id"]
        if correlation_id := self._identifiers.get("correlation_id"):
            headers["X-Correlation-ID"] = correlation_id


async def _answer_cut_off(scope: Scope, receive: Receive, answer: _Answer) -> None:
    if scope["type"] == "websocket":
        if answer.status is None:
            await answer.send({"type": "websocket.close", "code": _SERVICE_RESTART, "reason": "Service restart"})
    elif not answer.started:
        headers = {"Retry-After": str(_RETRY_AFTER_S)}
        if scope["http_version"].startswith("1"):
            headers["Connection"] = "close"
        response = problem_response(503, "The service stops and did not finish this; try again.", headers=headers)
        await SecurityHeadersMiddleware(response)(scope, receive, answer.send)


async def _answer_failure(scope: Scope, receive: Receive, answer: _Answer, error_id: str) -> None:
    if scope["type"] == "websocket":
        if answer.status is None:
            await answer.send({"type": "websocket.close", "code": 1011, "reason": "Internal error"})
    elif not answer.started:
        response = problem_response(500, "Something went wrong; the log has it under this id.", error_id=error_id)
        # What adds them to every other answer lies within.
        await SecurityHeadersMiddleware(response)(scope, receive, answer.send)
