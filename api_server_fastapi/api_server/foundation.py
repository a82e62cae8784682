"""The foundation is itself an application: what every service has before it adds anything."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from api_server.application import Application
from api_server.exceptions import NotAuthenticatedError

if TYPE_CHECKING:
    from fastapi import APIRouter

    from api_server.graphql.part import GraphQLPart


def _routers() -> "Sequence[APIRouter]":
    from api_server.api.system import system_router  # noqa: PLC0415 - a command line needs no face

    return (system_router(),)


def _graphql() -> "GraphQLPart":
    from api_server.graphql.system import SYSTEM_PART  # noqa: PLC0415 - a command line needs no face

    return SYSTEM_PART


FOUNDATION = Application(
    name="api_server",
    version=version("api-server"),
    routers=_routers,
    graphql=_graphql,
    requires_database=True,
    errors={NotAuthenticatedError: 401},
)
