"""`graphql-ws`, the older protocol, with an end of waiting, limits, and words for what it has no words for."""

import asyncio
from contextlib import aclosing, suppress
from typing import Any

from strawberry.http.exceptions import NonJsonMessageReceived, WebSocketDisconnected
from strawberry.subscriptions import GRAPHQL_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_ws.handlers import BaseGraphQLWSHandler
from strawberry.subscriptions.protocols.graphql_ws.types import ConnectionInitMessage, OperationMessage, StartMessage
from strawberry.types.execution import PreExecutionError

from api_server.graphql.context import GraphQLContext
from api_server.graphql.frames import is_message
from api_server.graphql.open_sockets import Ending
from api_server.graphql.sockets import (
    BAD_REQUEST,
    INIT_TIMEOUT,
    INIT_TIMEOUT_S,
    POLICY_VIOLATION,
    TOO_MANY_INITS,
    TOO_MANY_MESSAGES,
    TOO_MANY_OPERATIONS,
    TRY_AGAIN_LATER,
    Load,
    RefusedError,
    let_it_begin,
)


class LegacyHandler(BaseGraphQLWSHandler[GraphQLContext, None]):
    """`graphql-ws`: what is no message is answered by `connection_error`, and closes the socket with 4400.

    The protocol itself knows neither an end of waiting for the introduction nor a second one: both are answered as
    `graphql-transport-ws` does, by 4408 and 4429.
    """

    protocol = GRAPHQL_WS_PROTOCOL
    _has_ended = False

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - passed on as they are
        super().__init__(*args, **options)
        self._load = Load(self.context)

    @property
    def running(self) -> int:
        return self._load.running

    async def handle(self) -> None:
        self.context.connection = self
        introduction = asyncio.create_task(self._await_introduction())
        try:
            with self._load.sockets.holding(self, self.context.known_by_header):
                await super().handle()
        except NonJsonMessageReceived:
            await self._refuse(BAD_REQUEST, "WebSocket message must be valid JSON")
        finally:
            introduction.cancel()
            with suppress(asyncio.CancelledError, WebSocketDisconnected):
                await introduction

    async def end(self, ending: Ending) -> None:
        self._has_ended = True
        with suppress(WebSocketDisconnected):
            for name, task in list(self.tasks.items()):
                task.cancel()
                await self._tell(name, ending.error)
            await self._refuse(ending.legacy_close_code, ending.message, ending.code)

    async def handle_message(self, message: OperationMessage) -> None:
        if self._has_ended:
            return
        if not self._load.take_message():
            await self._refuse(POLICY_VIOLATION, TOO_MANY_MESSAGES)
        elif is_message(message, start="start", stop="stop"):
            await super().handle_message(message)
            await let_it_begin()
        else:
            await self._refuse(BAD_REQUEST, "Invalid message")

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        if self.connection_acknowledged:
            await self._refuse(TOO_MANY_INITS, "Too many initialisation requests")
            return
        try:
            await super().handle_connection_init(message)
        except RefusedError as refused:
            await self._refuse(TRY_AGAIN_LATER, refused.reason, refused.code)

    async def handle_start(self, message: StartMessage) -> None:
        name = message["id"]
        if self.connection_acknowledged and name not in self.tasks and not self._load.has_room:
            await self._tell(name, TOO_MANY_OPERATIONS)
            return
        await super().handle_start(message)
        if (task := self.tasks.get(name)) is not None:
            self._load.add(task)

    async def handle_async_results(
        self, operation_id: str, query: str, operation_name: str | None, variables: dict[str, object] | None
    ) -> None:
        """Send what an operation answers, and have it closed when this ends, by whatever way."""
        source = await self.schema.subscribe(
            query=query,
            variable_values=variables,
            operation_name=operation_name,
            context_value=self.context,
            root_value=self.root_value,
        )
        with suppress(WebSocketDisconnected):
            try:
                async with aclosing(source):
                    async for result in source:
                        if isinstance(result, PreExecutionError):
                            await self._tell(operation_id, (result.errors or [])[0].formatted)
                            return
                        await self.send_data_message(result, operation_id)
            except asyncio.CancelledError:
                pass  # the client wants no more of it, which the protocol answers too
            finally:
                self.tasks.pop(operation_id, None)
            if not self._has_ended:
                await self.send_message({"type": "complete", "id": operation_id})

    async def _await_introduction(self) -> None:
        await asyncio.sleep(INIT_TIMEOUT_S)
        if not self.connection_acknowledged:
            await self._refuse(INIT_TIMEOUT, "Connection initialisation timeout")

    async def _tell(self, operation_id: str, error: Any) -> None:  # noqa: ANN401 - JSON
        await self.send_message({"type": "error", "id": operation_id, "payload": error})

    async def _refuse(self, close_code: int, reason: str, code: str | None = None) -> None:
        payload: dict[str, object] = {"message": reason}
        if code is not None:
            payload["code"] = code
        await self.send_message({"type": "connection_error", "payload": payload})
        await self.websocket.close(code=close_code, reason=reason)
