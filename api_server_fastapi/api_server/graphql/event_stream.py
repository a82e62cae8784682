"""An answer of many parts over HTTP: server-sent events, for as long as somebody listens."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api_server.leaving import until_left

_HEARTBEAT_PERIOD_S = 15.0
_HEARTBEAT = b": still here\r\n\r\n"


class EventStream(Response):
    """Sends what a generator yields, and closes it as soon as the client has left.

    Starlette's own streaming response is cancelled by anyio, which never gets a hand on a stream whose next item is
    always there. A comment every now and then keeps proxies from taking a quiet stream for a dead one.
    """

    def __init__(self, events: AsyncGenerator[str, None], status_code: int, headers: Mapping[str, str]) -> None:
        super().__init__(status_code=status_code, headers=headers)
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        async def send_while_there(message: Message) -> None:
            try:
                await send(message)
            except (OSError, RuntimeError) as error:
                # uvloop's word for a connection that was closed meanwhile is a RuntimeError.
                raise ClientDisconnect from error

        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send_while_there(start)
        sending = asyncio.create_task(self._send_events(send_while_there), name="event stream")
        listening = asyncio.create_task(_beat_until_left(receive, send_while_there), name="event stream's client")
        try:
            await asyncio.wait({sending, listening}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (listening, sending):
                task.cancel()
            ended = await asyncio.gather(listening, sending, return_exceptions=True)
        for end in ended:
            if isinstance(end, Exception):
                raise end

    async def _send_events(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            async for event in events:
                await send(_part(event.encode()))
        await send(_part(b"", more=False))


async def _beat_until_left(receive: Receive, send: Send) -> None:
    while True:
        try:
            async with asyncio.timeout(_HEARTBEAT_PERIOD_S):
                return await until_left(receive)
        except TimeoutError:
            await send(_part(_HEARTBEAT))


def _part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}
