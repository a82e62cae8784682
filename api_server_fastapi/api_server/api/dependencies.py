"""How an endpoint gets what it needs.

All of it by coroutine functions: FastAPI calls a plain function in a thread, which costs more than what it does.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import svcs
from fastapi import Depends
from starlette.requests import HTTPConnection
from svcs.fastapi import get_registry

from api_server.exceptions import NotAuthenticatedError
from api_server.identity import Principal
from api_server.services.registry import ServiceRegistry


async def request_container(connection: HTTPConnection) -> AsyncIterator[svcs.Container]:
    """Open the container of one request or socket, and close it afterwards."""
    async with svcs.Container(get_registry(connection.app)) as container:
        yield container


async def service_registry(connection: HTTPConnection) -> ServiceRegistry:
    """Give the process's registry, whose `get` returns what `get_x_service()` does."""
    registry = get_registry(connection.app)
    assert isinstance(registry, ServiceRegistry)
    return registry


def provide(service_type: type) -> Any:  # noqa: ANN401 - what Depends returns
    """Make a parameter of an endpoint a service.

    It is written as `planning: Annotated[Planning, provide(Planning)]`.
    """

    async def dependency(container: Annotated[svcs.Container, Depends(request_container)]) -> object:
        return await container.aget(service_type)

    return Depends(dependency)


async def authenticated_principal(connection: HTTPConnection) -> Principal:
    """Give who asks. Raises NotAuthenticatedError where nobody was asked who it is."""
    principal: Principal | None = getattr(connection.state, "principal", None)
    if principal is None:
        raise NotAuthenticatedError("This needs an identity.")
    return principal
