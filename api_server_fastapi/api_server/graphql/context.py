"""What a resolver finds in `info.context`."""

import asyncio
import copy
from collections.abc import AsyncIterator, Iterator
from typing import Any

import svcs
from strawberry.extensions import SchemaExtension
from strawberry.fastapi import BaseContext
from strawberry.types.graphql import OperationType

from api_server.graphql.open_sockets import Connection
from api_server.identity import Principal
from api_server.leaving import UnlessClientLeaves
from api_server.services.registry import ServiceRegistry


class GraphQLContext(BaseContext):
    """Who asks, and the services of this operation.

    On a socket the context outlives an operation; what resolvers get is a copy with a container of its own.
    """

    services: svcs.Container

    def __init__(self, registry: ServiceRegistry, principal: Principal | None) -> None:
        super().__init__()
        self.registry = registry
        self.principal = principal
        self.unless_client_leaves: UnlessClientLeaves | None = None
        self.connection: Connection | None = None
        self.changing: set[asyncio.Task[Any]] = set()
        """The tasks that carry out a mutation just now."""

    @property
    def request_id(self) -> str:
        """The id of the HTTP request or socket that this operation came by."""
        assert self.request is not None
        request_id: str = self.request.state.request_id
        return request_id

    @property
    def known_by_header(self) -> str | None:
        """Who asks for a socket, where an `Authorization` header says it; what introduces them may name another one."""
        assert self.request is not None
        is_told = self.principal is not None and "authorization" in self.request.headers
        return self.principal.user_id if self.principal is not None and is_told else None

    @property
    def user_id(self) -> str:
        """Who asks."""
        assert self.principal is not None, "who is not known is refused before an operation begins"
        return self.principal.user_id


class OperationScope(SchemaExtension):
    """Opens one container per operation and closes it when the operation ends, by whatever way.

    A query ends when its client leaves. A mutation does not: half of what it changes is worse than all of it.
    """

    async def on_operation(self) -> AsyncIterator[None]:
        context = copy.copy(self.execution_context.context)
        async with svcs.Container(context.registry) as context.services:
            self.execution_context.context = context
            yield

    def on_execute(self) -> Iterator[None]:
        context: GraphQLContext = self.execution_context.context
        kind = self.execution_context.operation_type
        if context.unless_client_leaves is not None and kind is OperationType.QUERY:
            context.unless_client_leaves.watch()
        task = asyncio.current_task()
        if kind is not OperationType.MUTATION or task is None:
            yield
            return
        context.changing.add(task)
        try:
            yield
        finally:
            context.changing.discard(task)
