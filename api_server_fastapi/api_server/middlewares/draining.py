"""Has clients open new connections elsewhere while a process leaves."""

from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class DrainingMiddleware:
    """Adds `Connection: close` to every HTTP answer while `is_draining` says so; the server then hangs up.

    Answers that were asked for before have it too, where they begin after. Sockets are told in their own protocol.
    """

    def __init__(self, app: ASGIApp, is_draining: Callable[[], bool]) -> None:
        self.app = app
        self.is_draining = is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # HTTP/2 knows no such header, and has connections that end by themselves.
        if scope["type"] != "http" or not scope["http_version"].startswith("1"):
            await self.app(scope, receive, send)
            return

        async def hang_up(message: Message) -> None:
            if message["type"] == "http.response.start" and self.is_draining():
                message.setdefault("headers", [])
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self.app(scope, receive, hang_up)
