"""The one extension point: an application is a value, and the foundation serves and administers it."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, TypeAlias

from api_server.exceptions import SettingsError, StartError
from api_server.settings import Settings, get_settings, read_settings

if TYPE_CHECKING:
    import typer
    from fastapi import APIRouter, FastAPI
    from pydantic import BaseModel
    from pydantic_settings import BaseSettings
    from starlette.middleware import Middleware

    from api_server.database.migration_backend import MigrationBackend
    from api_server.event_bus import BaseEvent, Handler
    from api_server.findings import Finding
    from api_server.graphql.part import GraphQLPart
    from api_server.local.postgres import PostgresAddress
    from api_server.readiness_pipeline import ReadinessStage
    from api_server.services.registry import ServiceRegistry

Lifespan: TypeAlias = "Callable[[FastAPI, ServiceRegistry], AsyncGenerator[None, None]]"
Registration: TypeAlias = "Callable[[ServiceRegistry], None]"


REST_PROFILE = "rest"
GRAPHQL_PROFILE = "graphql"


def nothing_to_register(registry: "ServiceRegistry") -> None:
    """Register no service."""


def no_variables(
    addresses: "Sequence[PostgresAddress]",  # noqa: ARG001 - the seam's signature
    through_pooler: bool,  # noqa: ARG001, FBT001 - as above
) -> "Mapping[str, str]":
    """Need none besides the foundation's own."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """What a service consists of.

    `routers`, `graphql`, `profiles`, `stages`, `migrations`, `commands`, `findings` and `database_url` are called when
    they are needed, so that a command line that only administers an application imports none of its faces.

    - `errors` maps each exception class that clients may see, by its `code` and message, to the HTTP status of its
      problem details; every other exception is masked.
    - `profiles` maps the name of a further face to its routers; `API_SERVER_PROFILES` chooses among these, `rest`
      (which is `routers`) and `graphql`.
    - `stages` are added to the readiness pipeline. Where `requires_database`, a failing database is an error and not
      only a degradation.
    - `migrations` are applied in this order.
    - `event_handlers` maps each class of events to the functions and classes that handle them.
    - `preset_kinds` maps each kind of presets to the model that their documents keep to. Without any, or without a
      database, there is no presets API.
    - `database_url` is used where `API_SERVER_DATABASE_URL` is unset. Where neither is set and `uses_database` says
      False, the database is not missed.
    - `commands` maps names to what `api-server-cli` offers under them.
    - `lab_environment` says by which variables the application finds a database that the failover lab runs, given the
      addresses of its nodes or of what stands before them, and whether that is a pooler.
    - `findings` are what `api-server-cli doctor` says of settings that contradict each other.
    """

    name: str
    version: str
    register: "Registration" = nothing_to_register
    lifespan: "Lifespan | None" = None
    routers: "Callable[[], Sequence[APIRouter]]" = tuple
    graphql: "Callable[[], GraphQLPart] | None" = None
    profiles: "Mapping[str, Callable[[], Sequence[APIRouter]]]" = field(default_factory=dict)
    middleware: "Sequence[Middleware]" = ()
    stages: "Callable[[], Sequence[ReadinessStage]]" = tuple
    requires_database: bool = False
    uses_database: Callable[[], bool] = lambda: True
    migrations: "Callable[[], Sequence[MigrationBackend]]" = tuple
    database_url: Callable[[], str | None] = lambda: None
    commands: "Callable[[], Mapping[str, typer.Typer]]" = dict
    findings: "Callable[[], Sequence[Finding]]" = tuple
    lab_environment: "Callable[[Sequence[PostgresAddress], bool], Mapping[str, str]]" = no_variables
    event_handlers: "Mapping[type[BaseEvent], Sequence[Handler]]" = field(default_factory=dict)
    preset_kinds: "Mapping[str, type[BaseModel]]" = field(default_factory=dict)
    errors: Mapping[type[Exception], int] = field(default_factory=dict)
    settings: "Sequence[type[BaseSettings]]" = ()

    def __post_init__(self) -> None:
        """Refuse profiles whose names cannot be chosen."""
        for name in self.profiles:
            if name != name.lower() or name in (REST_PROFILE, GRAPHQL_PROFILE):
                raise ValueError(f"the profile {name!r} should have a name in lower case that is none of rest, graphql")

    def primary_url(self) -> str | None:
        """Return the URL that leads straight to the primary: `API_SERVER_DATABASE_URL`, else the application's own."""
        given = get_settings().database_url
        return given.get_secret_value() if given else self.database_url()

    @property
    def needs_database(self) -> bool:
        """Whether a database that is not there is missed."""
        return self.requires_database or self.uses_database()

    @property
    def keeps_presets(self) -> bool:
        """Whether there are presets, and a database to keep them in."""
        return bool(self.preset_kinds) and self.needs_database

    def active_profiles(self) -> frozenset[str]:
        """Return the names of the faces that are served. Raises SettingsError where one is unknown."""
        known = {REST_PROFILE, GRAPHQL_PROFILE, *self.profiles}
        chosen = frozenset(get_settings().profiles) or known
        if unknown := sorted(chosen - known):
            names = ", ".join(sorted(known))
            sentence = f"API_SERVER_PROFILES names {', '.join(unknown)}, and may name {names}"
            raise SettingsError([f"{sentence}, several separated by commas; unset: all."])
        return frozenset(chosen)

    def check_environment(self, *more: "type[BaseSettings]") -> None:
        """Check all settings of the service at once. Raises SettingsError with a sentence for each that is wrong."""
        read_settings(Settings, *more, *self.settings)
        self.active_profiles()


def load_application(path: str) -> Application:
    """Import the application that a `module:attribute` path names.

    Raises StartError where the module, or an Application under that name, does not exist.
    """
    module_name, _, attribute = path.partition(":")
    try:
        module = import_module(module_name)
    # Anything else is the application's own, and its traceback is for whoever writes it.
    except (ImportError, SyntaxError) as error:
        raise StartError(f"API_SERVER_APP names {path}, whose import fails: {error}.") from error
    application = getattr(module, attribute, None)
    if not isinstance(application, Application):
        raise StartError(f"API_SERVER_APP names {path}, but {module_name} has no Application called {attribute!r}.")
    return application
