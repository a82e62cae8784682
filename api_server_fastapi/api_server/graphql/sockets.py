"""Both WebSocket protocols, made to answer in their own words where a client does not speak them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any, TypeGuard

from starlette.websockets import WebSocketDisconnect
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import NonJsonMessageReceived, WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import Message
from strawberry.subscriptions.protocols.graphql_ws.handlers import BaseGraphQLWSHandler
from strawberry.subscriptions.protocols.graphql_ws.types import ConnectionInitMessage, OperationMessage
from strawberry.types.execution import PreExecutionError

from api_server.graphql.context import GraphQLContext

INIT_TIMEOUT_S = 5.0

_REASON_LIMIT = 123
_BAD_REQUEST, _INIT_TIMEOUT, _TOO_MANY_INITS = 4400, 4408, 4429


class StrictSocket(ASGIWebSocketAdapter):
    """A socket on which a frame that cannot be read is an error on both protocols, and a client may leave any time."""

    async def iter_json(self, *, ignore_parsing_errors: bool = False) -> AsyncGenerator[object, None]:  # noqa: ARG002
        async for message in super().iter_json(ignore_parsing_errors=False):
            yield message

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


class TransportHandler(BaseGraphQLTransportWSHandler[GraphQLContext, None]):
    """`graphql-transport-ws`: a frame that is no message closes the socket with 4400."""

    async def handle_message(self, message: Message) -> None:
        if _is_message(message, start="subscribe", stop="complete"):
            await super().handle_message(message)
            await _let_it_begin()
        else:
            await self.handle_invalid_message("Invalid message")

    async def handle_task_exception(self, error: Exception) -> None:
        # A client that leaves while an operation runs is no error of the operation.
        if not isinstance(error, WebSocketDisconnected):
            await super().handle_task_exception(error)


class LegacyHandler(BaseGraphQLWSHandler[GraphQLContext, None]):
    """`graphql-ws`: what is no message is answered by `connection_error`, and closes the socket with 4400.

    The protocol itself knows neither an end of waiting for the introduction nor a second one: both are answered as
    `graphql-transport-ws` does, by 4408 and 4429.
    """

    async def handle(self) -> None:
        introduction = asyncio.create_task(self._await_introduction())
        try:
            await super().handle()
        except NonJsonMessageReceived:
            await self._refuse(_BAD_REQUEST, "WebSocket message must be valid JSON")
        finally:
            introduction.cancel()
            with suppress(asyncio.CancelledError, WebSocketDisconnected):
                await introduction

    async def handle_message(self, message: OperationMessage) -> None:
        if _is_message(message, start="start", stop="stop"):
            await super().handle_message(message)
            await _let_it_begin()
        else:
            await self._refuse(_BAD_REQUEST, "Invalid message")

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        if self.connection_acknowledged:
            await self._refuse(_TOO_MANY_INITS, "Too many initialisation requests")
        else:
            await super().handle_connection_init(message)

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
                            error = (result.errors or [])[0].formatted
                            await self.send_message({"type": "error", "id": operation_id, "payload": error})
                            return
                        await self.send_data_message(result, operation_id)
            except asyncio.CancelledError:
                pass  # the client wants no more of it, which the protocol answers too
            finally:
                self.tasks.pop(operation_id, None)
            await self.send_message({"type": "complete", "id": operation_id})

    async def _await_introduction(self) -> None:
        await asyncio.sleep(INIT_TIMEOUT_S)
        if not self.connection_acknowledged:
            await self._refuse(_INIT_TIMEOUT, "Connection initialisation timeout")

    async def _refuse(self, code: int, reason: str) -> None:
        await self.send_message({"type": "connection_error", "payload": {"message": reason}})
        await self.websocket.close(code=code, reason=reason)


async def _let_it_begin() -> None:
    # A task that is cancelled before its first step has never been: nothing would tell of the operation.
    await asyncio.sleep(0)


def _is_message(frame: Any, start: str, stop: str) -> TypeGuard[Any]:  # noqa: ANN401 - whatever JSON a client sent
    """Whether a frame has the shape of a message; `start` and `stop` are the types that begin and end an operation."""
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        return False
    if not isinstance(frame.get("id", ""), str) or (frame["type"] in (start, stop) and "id" not in frame):
        return False
    return frame["type"] != start or _is_operation(frame.get("payload"))


def _is_operation(payload: object) -> bool:
    return (
        isinstance(payload, dict)
        and isinstance(payload.get("query"), str)
        and isinstance(payload.get("variables"), dict | None)
        and isinstance(payload.get("operationName"), str | None)
    )
