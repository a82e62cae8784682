"""The foundation is itself an application: what every service has before it adds anything."""

from importlib.metadata import version
from typing import TYPE_CHECKING

from api_server.application import Application, load_application
from api_server.exceptions import InvalidQueryError, NotAuthenticatedError
from api_server.settings import get_settings

if TYPE_CHECKING:
    from api_server.graphql.part import GraphQLPart


def _graphql() -> "GraphQLPart":
    from api_server.graphql.system import SYSTEM_PART  # noqa: PLC0415 - a command line needs no face

    return SYSTEM_PART


FOUNDATION = Application(
    name="api_server",
    version=version("api-server"),
    graphql=_graphql,
    requires_database=True,
    errors={InvalidQueryError: 422, NotAuthenticatedError: 401},
)


def selected_application() -> Application:
    """Return the application that `API_SERVER_APP` names, else the foundation."""
    path = get_settings().app
    return load_application(path) if path else FOUNDATION
