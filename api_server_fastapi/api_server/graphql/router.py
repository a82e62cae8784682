"""The `/graphql` endpoint: HTTP and WebSocket."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Literal, NoReturn, cast

import cross_web
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from strawberry.exceptions import ConnectionRejectionError
from strawberry.fastapi import GraphQLRouter
from strawberry.http import GraphQLRequestData
from strawberry.http.streaming import AsyncTextStream, HTTPStreamTransport
from strawberry.http.types import QueryParams
from strawberry.schema.exceptions import InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_WS_PROTOCOL
from strawberry.types import ExecutionResult, SubscriptionExecutionResult
from strawberry.types.graphql import OperationType
from strawberry.types.unset import UNSET, UnsetType
from svcs.fastapi import get_registry

from api_server.exceptions import IdentityUnavailableError, NotAuthenticatedError, TooManyRequestsError
from api_server.graphql.context import GraphQLContext
from api_server.graphql.event_stream import EventStream
from api_server.graphql.legacy_socket import LegacyHandler
from api_server.graphql.open_sockets import DRAINING, OpenSockets, ServerDrainingError, SocketsFullError
from api_server.graphql.schema import CodedErrorSchema
from api_server.graphql.sockets import INIT_TIMEOUT_S, RefusedError, StrictSocket
from api_server.graphql.transport_socket import TransportHandler
from api_server.identity import Authenticator, credentials_from_headers
from api_server.leaving import UnlessClientLeaves
from api_server.problem_details import UNSUPPORTED_TYPE, problem_response
from api_server.services.registry import ServiceRegistry

GRAPHQL_PATH = "/graphql"


def graphql_router(
    schema: CodedErrorSchema,
    authenticator: Authenticator,
    *,
    legacy_sockets: bool = True,
    allowed_origins: Sequence[str] = (),
    graphql_ide: bool = True,
) -> GraphQLRouter[GraphQLContext, None]:
    """Serve a schema at `/graphql`, to whom the authenticator accepts.

    Over HTTP, as server-sent events for who accepts `text/event-stream`, and over WebSocket by `graphql-transport-ws`
    and, with `legacy_sockets`, `graphql-ws`; a page of another origin than `allowed_origins` gets no socket. What
    sockets may take says the `OpenSockets` of the registry. With `graphql_ide`, browsers get GraphiQL.
    """
    legacy = (GRAPHQL_WS_PROTOCOL,) if legacy_sockets else ()
    protocols = (GRAPHQL_TRANSPORT_WS_PROTOCOL, *legacy, GRAPHQL_SSE_PROTOCOL)
    return _Router(schema, authenticator, protocols, allowed_origins, "graphiql" if graphql_ide else None)


class _Router(GraphQLRouter[GraphQLContext, None]):
    graphql_transport_ws_handler_class = TransportHandler
    graphql_ws_handler_class = LegacyHandler
    websocket_adapter_class = StrictSocket

    def __init__(
        self,
        schema: CodedErrorSchema,
        authenticator: Authenticator,
        protocols: Sequence[str],
        allowed_origins: Sequence[str],
        graphql_ide: Literal["graphiql"] | None,
    ) -> None:
        super().__init__(
            schema,
            path=GRAPHQL_PATH,
            context_getter=_context,
            subscription_protocols=protocols,
            connection_init_wait_timeout=timedelta(seconds=INIT_TIMEOUT_S),
            # Its handlers count what runs themselves.
            max_subscriptions_per_connection=None,
            allowed_origins=allowed_origins,
            graphql_ide=graphql_ide,
        )
        self._authenticator = authenticator
        # Each route knows its own method only, so that one more says which there are.
        self.add_api_route(GRAPHQL_PATH, _method_not_allowed, methods=_OTHER_METHODS, include_in_schema=False)

    async def run(self, request: Any, context: Any = UNSET, root_value: Any = UNSET) -> Any:  # noqa: ANN401 - two overloads
        if self.is_websocket_request(request) and (refusal := _refusal(context)) is not None:
            await request.send_denial_response(refusal)
            return request
        try:
            return await super().run(request, context, root_value)
        except cross_web.HTTPException as error:
            if error.reason == "Unsupported content type":
                raise HTTPException(415, UNSUPPORTED_TYPE) from error
            cause = error.__cause__
            if isinstance(cause, InvalidOperationTypeError):
                if cause.operation_type is OperationType.SUBSCRIPTION:
                    raise HTTPException(406, _ANSWERED_ONCE) from error
                raise HTTPException(405, error.reason, headers={"Allow": "POST"}) from error
            # Starlette's own reaches the handler that answers with problem details.
            raise HTTPException(error.status_code, error.reason) from error

    async def execute_single(  # noqa: PLR0917 - the base class' signature
        self,
        request: Request,
        request_adapter: cross_web.AsyncHTTPRequestAdapter,
        sub_response: Response,
        context: GraphQLContext,
        root_value: None,
        request_data: GraphQLRequestData,
    ) -> ExecutionResult:
        async with UnlessClientLeaves(request, watch=False) as context.unless_client_leaves:
            return await super().execute_single(
                request, request_adapter, sub_response, context, root_value, request_data
            )

    async def execute_operation(  # noqa: PLR0917 - the base class' signature
        self,
        request: Request,
        request_adapter: cross_web.AsyncHTTPRequestAdapter,
        request_data: GraphQLRequestData | list[GraphQLRequestData],
        context: GraphQLContext,
        root_value: None,
        sub_response: Response,
    ) -> ExecutionResult | list[ExecutionResult] | SubscriptionExecutionResult:
        # A response that is a stream wants to know it, and is not given it.
        request.state.graphql_context = context
        return await super().execute_operation(
            request, request_adapter, request_data, context, root_value, sub_response
        )

    def decode_json(self, data: str | bytes) -> object:
        try:
            return json.loads(data, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise json.JSONDecodeError("should be valid JSON (RFC 8259)", "", 0) from error

    def parse_json(self, data: str | bytes) -> Any:  # noqa: ANN401 - JSON
        try:
            document = self.decode_json(data)
        except json.JSONDecodeError as error:
            raise HTTPException(400, "The body should be valid JSON (RFC 8259).") from error
        if not isinstance(document, dict | list):
            raise HTTPException(400, "The body should be a JSON object with the key 'query'.")
        return document

    def parse_query_params(self, params: QueryParams) -> dict[str, Any]:
        parsed: dict[str, Any] = dict(params)
        for name in ("variables", "extensions"):
            if parsed.get(name):
                try:
                    parsed[name] = self.decode_json(parsed[name])
                except json.JSONDecodeError:
                    # From None: what it is caused by would be taken for the body's.
                    raise HTTPException(400, f"The parameter '{name}' should be valid JSON (RFC 8259).") from None
        return parsed

    def _stream_result(
        self, request: Request, result: SubscriptionExecutionResult, transport: HTTPStreamTransport
    ) -> AsyncTextStream:
        """Encode each result, and close their source first when nobody wants more."""
        # What a subscription's result is: typed as an iterator, it is the generator that has to be closed.
        answers = cast("AsyncGenerator[ExecutionResult, None]", result)

        async def stream() -> AsyncGenerator[str, None]:
            async with aclosing(answers):
                async for answer in answers:
                    yield transport.encode_next(await self.process_result(request, answer), self.encode_json_string)
            yield transport.encode_complete()

        return stream

    async def create_streaming_response(
        self,
        request: Request,
        stream: Callable[[], AsyncIterator[str]],
        sub_response: Response,
        headers: Mapping[str, str],
    ) -> Response:
        status = sub_response.status_code or HTTPStatus.OK
        events = cast("AsyncGenerator[str, None]", stream())
        context: GraphQLContext = request.state.graphql_context
        return EventStream(events, context, status, {**sub_response.headers, **headers})

    async def on_ws_connect(self, context: GraphQLContext) -> UnsetType | dict[str, object] | None:
        """Refuse a socket whose credentials, from its header or its `connection_init`, are not accepted."""
        assert context.request is not None
        assert context.connection is not None
        introduced = _authorization(context.connection_params)
        given = [introduced] if introduced else context.request.headers.getlist("authorization")
        # It has served; a socket may last for days, and what introduces it may be large, and secret.
        context.connection_params = None
        try:
            context.principal = await self._authenticator.authenticate(credentials_from_headers(given))
            context.registry.get(OpenSockets).introduce(context.connection, context.principal)
            # The header may have named another one: whose socket it is, its lines are about.
            structlog.contextvars.bind_contextvars(user_id=context.principal.user_id)
        except NotAuthenticatedError as error:
            raise ConnectionRejectionError({"code": error.code}) from error
        except (IdentityUnavailableError, TooManyRequestsError) as error:
            raise RefusedError(error.code, str(error)) from error
        return await super().on_ws_connect(context)


_ANSWERED_ONCE = (
    "A subscription has many answers: send Accept: text/event-stream to get them as server-sent events, or use a "
    "WebSocket."
)

_OTHER_METHODS = ["DELETE", "HEAD", "OPTIONS", "PATCH", "PUT", "TRACE"]

# Stands for credentials of the wrong JSON type: they are refused, not overlooked.
_UNREADABLE = "-"


async def _method_not_allowed() -> None:
    raise HTTPException(405, headers={"Allow": "GET, POST"})


async def _context(connection: HTTPConnection) -> GraphQLContext:
    registry = get_registry(connection.app)
    assert isinstance(registry, ServiceRegistry)
    return GraphQLContext(registry, getattr(connection.state, "principal", None))


def _refusal(context: GraphQLContext) -> Response | None:
    """Return what answers an upgrade where no further socket is taken on."""
    try:
        context.registry.get(OpenSockets).check_room(context.known_by_header)
    except ServerDrainingError as error:
        return problem_response(503, DRAINING.message, code=error.code, headers={"Retry-After": "1"})
    except SocketsFullError:
        detail = "Too many sockets have not introduced themselves yet; try again."
        return problem_response(503, detail, headers={"Retry-After": "1"})
    return None


def _authorization(connection_params: object) -> str | None:
    if not isinstance(connection_params, dict):
        return None
    for name, value in connection_params.items():
        if isinstance(name, str) and name.lower() == "authorization":
            return value if isinstance(value, str) else _UNREADABLE
    return None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
