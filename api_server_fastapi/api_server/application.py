"""The one extension point: an application is a value, and the foundation serves and administers it."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, TypeAlias

from api_server.exceptions import StartError
from api_server.settings import get_settings

if TYPE_CHECKING:
    from fastapi import APIRouter, FastAPI
    from pydantic_settings import BaseSettings
    from starlette.middleware import Middleware

    from api_server.database.migration_backend import MigrationBackend
    from api_server.graphql.part import GraphQLPart
    from api_server.readiness_pipeline import ReadinessStage
    from api_server.services.registry import ServiceRegistry

Lifespan: TypeAlias = "Callable[[FastAPI, ServiceRegistry], AsyncGenerator[None, None]]"
Registration: TypeAlias = "Callable[[ServiceRegistry], None]"


def nothing_to_register(registry: "ServiceRegistry") -> None:
    """Register no service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """What a service consists of.

    `routers`, `graphql`, `stages`, `migrations` and `database_url` are called when they are needed, so that a command
    line that only administers an application imports none of its faces. `errors` maps each exception class that
    clients may see, by its `code` and message, to the HTTP status of its problem details; every other exception is
    masked. `migrations` are applied in this order. `database_url` is used where `API_SERVER_DATABASE_URL` is unset.
    """

    name: str
    version: str
    register: "Registration" = nothing_to_register
    lifespan: "Lifespan | None" = None
    routers: "Callable[[], Sequence[APIRouter]]" = tuple
    graphql: "Callable[[], GraphQLPart] | None" = None
    middleware: "Sequence[Middleware]" = ()
    stages: "Callable[[], Sequence[ReadinessStage]]" = tuple
    requires_database: bool = False
    migrations: "Callable[[], Sequence[MigrationBackend]]" = tuple
    database_url: Callable[[], str | None] = lambda: None
    errors: Mapping[type[Exception], int] = field(default_factory=dict)
    settings: "Sequence[type[BaseSettings]]" = ()

    def primary_url(self) -> str | None:
        """Return the URL that leads straight to the primary: `API_SERVER_DATABASE_URL`, else the application's own."""
        given = get_settings().database_url
        return given.get_secret_value() if given else self.database_url()


def load_application(path: str) -> Application:
    """Import the application that a `module:attribute` path names.

    Raises StartError where the module, or an Application under that name, does not exist.
    """
    module_name, _, attribute = path.partition(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise StartError(f"API_SERVER_APP names {path}, whose import fails: {error}.") from error
    application = getattr(module, attribute, None)
    if not isinstance(application, Application):
        raise StartError(f"API_SERVER_APP names {path}, but {module_name} has no Application called {attribute!r}.")
    return application
