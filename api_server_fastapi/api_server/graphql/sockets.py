"""What both WebSocket protocols have in common: a strict reading, and who may be on a socket for how long."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocketDisconnect
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import NonJsonMessageReceived, NonTextMessageReceived, WebSocketDisconnected

from api_server.allowance import Allowance
from api_server.graphql.context import GraphQLContext
from api_server.graphql.open_sockets import OpenSockets

INIT_TIMEOUT_S = 5.0

BAD_REQUEST, INIT_TIMEOUT, TOO_MANY_INITS = 4400, 4408, 4429
POLICY_VIOLATION, TRY_AGAIN_LATER, SERVICE_RESTART = 1008, 1013, 1012

TOO_MANY_MESSAGES = "Too many messages"
TOO_MANY_OPERATIONS = {
    "message": "As many operations as may run on one socket do.",
    "extensions": {"code": "TOO_MANY_OPERATIONS"},
}

_REASON_LIMIT = 123


class RefusedError(Exception):
    """Somebody introduced themselves, and cannot be let in just now; `code` and `reason` may be shown to them."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class StrictSocket(ASGIWebSocketAdapter):
    """A socket on which a frame that cannot be read is an error on both protocols, and a client may leave any time."""

    async def iter_json(self, *, ignore_parsing_errors: bool = False) -> AsyncGenerator[object, None]:  # noqa: ARG002
        try:
            async for message in super().iter_json(ignore_parsing_errors=False):
                yield message
        except NonTextMessageReceived as error:
            raise NonJsonMessageReceived from error

    async def send_json(self, message: Any) -> None:  # noqa: ANN401 - JSON
        try:
            await super().send_json(message)
        except RuntimeError as error:
            # Starlette's word for a socket that was closed while something was still to be sent.
            raise WebSocketDisconnected from error

    async def close(self, code: int, reason: str) -> None:
        # A close frame has room for so many bytes, and a reason may repeat what a client sent.
        fitting = reason.encode(errors="replace")[:_REASON_LIMIT].decode(errors="ignore")
        # Several operations of one socket may each find a reason to close it.
        with suppress(RuntimeError, WebSocketDisconnect):
            await super().close(code, fitting)


class Load:
    """What one socket has going on, beside what it may have."""

    def __init__(self, context: GraphQLContext) -> None:
        self.sockets = context.registry.get(OpenSockets)
        self._changing = context.changing
        self._messages = Allowance(self.sockets.limits.messages_per_s)
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def running(self) -> int:
        """How many operations run, be they stopped and not over yet."""
        return len(self._tasks)

    @property
    def has_room(self) -> bool:
        return self.running < self.sockets.limits.operations

    def take_message(self) -> bool:
        """Whether one more message is within what a client may send."""
        return self._messages.spend()

    def add(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def is_changing(self, task: asyncio.Task[Any]) -> bool:
        """Whether an operation's task carries out a mutation, which is not to be cancelled."""
        return task in self._changing

    async def until_over(self) -> None:
        """Wait until no operation runs any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)


async def let_it_begin() -> None:
    """Give way to a task that was just made.

    A task that is cancelled before its first step has never been: nothing would tell of the operation.
    """
    await asyncio.sleep(0)
