"""`graphql-transport-ws`, which answers in its own words where a client does not speak it, and knows its limits."""

import asyncio
from contextlib import suppress
from typing import Any

from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import (
    ConnectionInitMessage,
    Message,
    SubscribeMessage,
)

from api_server.graphql.context import GraphQLContext
from api_server.graphql.frames import is_message
from api_server.graphql.open_sockets import CHANGED_WITHIN_S, Ending
from api_server.graphql.sockets import (
    POLICY_VIOLATION,
    TOO_MANY_MESSAGES,
    TOO_MANY_OPERATIONS,
    TRY_AGAIN_LATER,
    Load,
    RefusedError,
    let_it_begin,
)


class TransportHandler(BaseGraphQLTransportWSHandler[GraphQLContext, None]):
    """`graphql-transport-ws`: a frame that is no message closes the socket with 4400."""

    protocol = GRAPHQL_TRANSPORT_WS_PROTOCOL
    _has_ended = False

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - passed on as they are
        super().__init__(*args, **options)
        self._load = Load(self.context)

    @property
    def running(self) -> int:
        return self._load.running

    async def handle(self) -> None:
        self.context.connection = self
        with self._load.sockets.holding(self, self.context.known_by_header):
            await super().handle()

    async def shutdown(self) -> None:
        await super().shutdown()
        await self._load.until_over()

    async def end(self, ending: Ending) -> None:
        self._has_ended = True
        operations = list(self.operations.values())
        changing = [task for one in operations if (task := one.task) is not None and self._load.is_changing(task)]
        for operation in operations:
            if operation.task is not None and operation.task not in changing:
                operation.completed = True
                operation.task.cancel()
        with suppress(WebSocketDisconnected):
            for operation in operations:
                if operation.task not in changing:
                    await self._tell(operation.id, ending.error)
            if changing:
                await asyncio.wait(changing, timeout=CHANGED_WITHIN_S)
            for operation in operations:
                if not operation.completed:
                    operation.completed = True
                    await self._tell(operation.id, ending.error)
        await self.websocket.close(ending.close_code, ending.message)

    async def handle_message(self, message: Message) -> None:
        if self._has_ended:
            return
        if not self._load.take_message():
            await self.websocket.close(POLICY_VIOLATION, TOO_MANY_MESSAGES)
        elif is_message(message, start="subscribe", stop="complete"):
            await super().handle_message(message)
            await let_it_begin()
        else:
            await self.handle_invalid_message("Invalid message")

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        try:
            await super().handle_connection_init(message)
        except RefusedError as refused:
            await self.websocket.close(TRY_AGAIN_LATER, refused.reason)

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        name = message["id"]
        if self.connection_acknowledged and name not in self.operations and not self._load.has_room:
            await self._tell(name, TOO_MANY_OPERATIONS)
            return
        await super().handle_subscribe(message)
        if (operation := self.operations.get(name)) is not None and operation.task is not None:
            self._load.add(operation.task)

    async def cleanup_operation(self, operation_id: str) -> None:
        operation = self.operations.get(operation_id)
        if operation is None or operation.task is None or not self._load.is_changing(operation.task):
            await super().cleanup_operation(operation_id)
            return
        # Half of a change is worse than all of it: nobody hears of it any more, but it goes on.
        operation.completed = True
        self.operations.pop(operation_id)

    async def handle_task_exception(self, error: Exception) -> None:
        # A client that leaves while an operation runs is no error of the operation.
        if not isinstance(error, WebSocketDisconnected):
            await super().handle_task_exception(error)

    async def _tell(self, operation_id: str, error: Any) -> None:  # noqa: ANN401 - JSON
        await self.send_message({"type": "error", "id": operation_id, "payload": [error]})
