"""Both WebSocket protocols, made to answer in their own words where a client does not speak them."""

from typing import Any, TypeGuard

from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import Message
from strawberry.subscriptions.protocols.graphql_ws.handlers import BaseGraphQLWSHandler
from strawberry.subscriptions.protocols.graphql_ws.types import OperationMessage

from api_server.graphql.context import GraphQLContext

_BAD_REQUEST = 4400


class TransportHandler(BaseGraphQLTransportWSHandler[GraphQLContext, None]):
    """`graphql-transport-ws`: a frame that is no message closes the socket with 4400."""

    async def handle_message(self, message: Message) -> None:
        if _is_message(message, operation="subscribe"):
            await super().handle_message(message)
        else:
            await self.handle_invalid_message("Invalid message")


class LegacyHandler(BaseGraphQLWSHandler[GraphQLContext, None]):
    """`graphql-ws`: a frame that is no message is answered by `connection_error`, and closes the socket with 4400."""

    async def handle_message(self, message: OperationMessage) -> None:
        if _is_message(message, operation="start"):
            await super().handle_message(message)
        else:
            await self.send_message({"type": "connection_error", "payload": {"message": "Invalid message"}})
            await self.websocket.close(code=_BAD_REQUEST, reason="Invalid message")


def _is_message(frame: Any, operation: str) -> TypeGuard[Any]:  # noqa: ANN401 - whatever JSON a client sent
    """Whether a frame has the shape of a message; `operation` is the type that starts one."""
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        return False
    if not isinstance(frame.get("id", ""), str):
        return False
    return frame["type"] != operation or ("id" in frame and _is_operation(frame.get("payload")))


def _is_operation(payload: object) -> bool:
    return (
        isinstance(payload, dict)
        and isinstance(payload.get("query"), str)
        and isinstance(payload.get("variables"), dict | None)
        and isinstance(payload.get("operationName"), str | None)
    )
