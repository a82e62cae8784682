"""An answer of many parts over HTTP: server-sent events, for as long as somebody listens."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from strawberry.http.streaming import SSETransport

from api_server.graphql.context import GraphQLContext
from api_server.graphql.open_sockets import CHANGED_WITHIN_S, DRAINING, Ending, OpenSockets, ServerDrainingError
from api_server.leaving import until_left

_HEARTBEAT_PERIOD_S = 15.0
_HEARTBEAT = b": still here\r\n\r\n"


class EventStream(Response):
    """Sends what a generator yields, and closes it as soon as the client has left; but a mutation goes on to its end.

    Starlette's own streaming response is cancelled by anyio, which never gets a hand on a stream whose next item is
    always there. A comment every now and then keeps proxies from taking a quiet stream for a dead one. Counts as a
    socket of who asks: raises TooManyRequestsError, before anything is sent, where they have too many.
    """

    protocol = "sse"
    running = 1

    def __init__(
        self,
        events: AsyncGenerator[str, None],
        context: GraphQLContext,
        status_code: int,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(status_code=status_code, headers=headers)
        del self.headers["content-length"]
        self._events = events
        self._context = context
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._is_over = asyncio.Event()
        self._is_told = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        assert self._context.principal is not None, "who is not known is refused before an operation begins"
        sockets = self._context.registry.get(OpenSockets)
        try:
            sockets.check_open()
        except ServerDrainingError as error:
            raise HTTPException(503, DRAINING.message, headers={"Retry-After": "1"}) from error
        with sockets.holding(self):
            sockets.introduce(self, self._context.principal)
            try:
                await self._answer(receive, send)
            finally:
                self._is_over.set()

    async def end(self, ending: Ending) -> None:
        if not self._ending.done():
            self._ending.set_result(ending)
        await self._is_over.wait()

    async def _answer(self, receive: Receive, send: Send) -> None:
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
            waited: set[asyncio.Future[Any]] = {sending, listening, self._ending}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if sending in self._context.changing:
                await asyncio.wait({sending}, timeout=CHANGED_WITHIN_S if self._ending.done() else None)
            if self._ending.done() and not sending.done() and not listening.done():
                listening.cancel()
                await self._tell(self._ending.result(), sending, send_while_there)
        finally:
            listening.cancel()
            if sending not in self._context.changing:
                sending.cancel()
            ended = await asyncio.gather(listening, sending, return_exceptions=True)
        for end in ended:
            if isinstance(end, Exception):
                raise end

    async def _send_events(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            async for event in events:
                if self._is_told:
                    return
                await send(_part(event.encode()))
        await send(_part(b"", more=False))

    async def _tell(self, ending: Ending, sending: asyncio.Task[None], send: Send) -> None:
        self._is_told = True
        if sending not in self._context.changing:
            sending.cancel()
            await asyncio.wait({sending})
        await send(_part(_last_events(ending).encode(), more=False))


def _last_events(ending: Ending) -> str:
    sse = SSETransport()
    return sse.encode_next({"data": None, "errors": [ending.error]}, json.dumps) + sse.encode_complete()


async def _beat_until_left(receive: Receive, send: Send) -> None:
    while True:
        try:
            async with asyncio.timeout(_HEARTBEAT_PERIOD_S):
                return await until_left(receive)
        except TimeoutError:
            await send(_part(_HEARTBEAT))


def _part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}
