"""Keeps bodies short: what is too long is refused before this process holds it."""

from collections.abc import Mapping

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_server.middlewares.route_path import route_path
from api_server.problem_details import problem_response

# Whatever the client still sends would be read to its end, to keep the connection for the next request.
_CLOSING = {"Connection": "close"}
_AS_IT_IS = (b"", b"identity")
_LEFT: Message = {"type": "http.disconnect"}


class BodyLimitMiddleware:
    """Answers 413 to a body that is too long, and 415 to one that would have to be unpacked first.

    What a Content-Length announces is refused before anything is read; what comes in chunks as soon as it is too long.
    `limits` holds the bytes of the paths for which `limit` does not count.
    """

    def __init__(self, app: ASGIApp, limit: int, limits: Mapping[str, int] | None = None) -> None:
        self.app = app
        self.limit = limit
        self.limits = limits or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced, encoding = _described(scope)
        limit = self.limits.get(route_path(scope), self.limit)
        if encoding not in _AS_IT_IS:
            await _not_unpacked()(scope, receive, send)
        elif announced is None:
            await _Counted(limit, scope, receive, send).answered_by(self.app)
        elif announced > limit:
            await _too_long(limit)(scope, receive, send)
        else:
            # The server takes no more than was announced.
            await self.app(scope, receive, send)


class _Counted:
    """A request whose app is told that its client has left as soon as the body is too long; the client is told why."""

    def __init__(self, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
        self._limit = limit
        self._scope = scope
        self._receive = receive
        self._send = send
        self._size = 0
        self._has_begun = False
        self._is_refused = False

    async def answered_by(self, app: ASGIApp) -> None:
        try:
            await app(self._scope, self._receive_counted, self._send_unless_refused)
        except ClientDisconnect:
            if not self._is_refused:
                raise

    async def _receive_counted(self) -> Message:
        if self._is_refused:
            return _LEFT
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size <= self._limit:
            return message
        self._is_refused = True
        if not self._has_begun:
            await _too_long(self._limit)(self._scope, self._receive, self._send)
        return _LEFT

    async def _send_unless_refused(self, message: Message) -> None:
        if not self._is_refused:
            self._has_begun = True
            await self._send(message)


def _described(scope: Scope) -> tuple[int | None, bytes]:
    """Return what the headers say of the body: its length, where they say it, and its encoding."""
    length, encoding = None, b""
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = int(value)
        elif name == b"content-encoding":
            encoding = value.strip().lower()
    return length, encoding


def _too_long(limit: int) -> ASGIApp:
    return problem_response(413, f"The body should have at most {limit} bytes.", headers=_CLOSING)


def _not_unpacked() -> ASGIApp:
    # A few bytes may unpack to gigabytes. RFC 9110, section 15.5.16: the answer says what is accepted.
    headers = {**_CLOSING, "Accept-Encoding": "identity"}
    return problem_response(415, "The body should have no Content-Encoding.", headers=headers)
