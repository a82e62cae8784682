"""The `/graphql` endpoint: HTTP and WebSocket."""

import json
from datetime import timedelta
from typing import Any, NoReturn

import cross_web
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from strawberry.exceptions import ConnectionRejectionError
from strawberry.fastapi import GraphQLRouter
from strawberry.types.unset import UNSET, UnsetType
from svcs.fastapi import get_registry

from api_server.exceptions import NotAuthenticatedError
from api_server.graphql.context import GraphQLContext
from api_server.graphql.schema import CodedErrorSchema
from api_server.graphql.sockets import LegacyHandler, TransportHandler
from api_server.identity import Authenticator, credentials_from_header
from api_server.problem_details import UNSUPPORTED_TYPE
from api_server.services.registry import ServiceRegistry


def graphql_router(schema: CodedErrorSchema, authenticator: Authenticator) -> GraphQLRouter[GraphQLContext, None]:
    """Serve a schema at `/graphql`, to whom the authenticator accepts."""
    return _Router(schema, authenticator)


class _Router(GraphQLRouter[GraphQLContext, None]):
    graphql_transport_ws_handler_class = TransportHandler
    graphql_ws_handler_class = LegacyHandler

    def __init__(self, schema: CodedErrorSchema, authenticator: Authenticator) -> None:
        super().__init__(
            schema,
            path="/graphql",
            context_getter=_context,
            connection_init_wait_timeout=timedelta(seconds=5),
        )
        self._authenticator = authenticator

    async def run(self, request: Any, context: Any = UNSET, root_value: Any = UNSET) -> Any:  # noqa: ANN401 - two overloads
        try:
            return await super().run(request, context, root_value)
        except cross_web.HTTPException as error:
            if error.reason == "Unsupported content type":
                raise HTTPException(415, UNSUPPORTED_TYPE) from error
            # Starlette's own reaches the handler that answers with problem details.
            raise HTTPException(error.status_code, error.reason) from error

    def parse_json(self, data: str | bytes) -> Any:  # noqa: ANN401 - JSON
        try:
            document = json.loads(data, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, "The body should be valid JSON (RFC 8259).") from error
        if not isinstance(document, dict | list):
            raise HTTPException(400, "The body should be a JSON object with the key 'query'.")
        return document

    async def on_ws_connect(self, context: GraphQLContext) -> UnsetType | dict[str, object] | None:
        """Refuse a socket whose credentials, from its header or its `connection_init`, are not accepted."""
        assert context.request is not None
        given = _authorization(context.connection_params) or context.request.headers.get("authorization")
        try:
            context.principal = await self._authenticator.authenticate(credentials_from_header(given))
        except NotAuthenticatedError as error:
            raise ConnectionRejectionError({"code": error.code}) from error
        return await super().on_ws_connect(context)


# Stands for credentials of the wrong JSON type: they are refused, not overlooked.
_UNREADABLE = "-"


async def _context(connection: HTTPConnection) -> GraphQLContext:
    registry = get_registry(connection.app)
    assert isinstance(registry, ServiceRegistry)
    return GraphQLContext(registry, getattr(connection.state, "principal", None))


def _authorization(connection_params: object) -> str | None:
    if not isinstance(connection_params, dict):
        return None
    for name, value in connection_params.items():
        if isinstance(name, str) and name.lower() == "authorization":
            return value if isinstance(value, str) else _UNREADABLE
    return None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
