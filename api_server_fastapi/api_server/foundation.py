"""The foundation is itself an application: what every service has before it adds anything."""

from importlib.metadata import version
from typing import TYPE_CHECKING

from api_server.application import Application, load_application
from api_server.error_statuses import ERROR_STATUSES
from api_server.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import APIRouter

    from api_server.graphql.part import GraphQLPart


def _graphql() -> "GraphQLPart":
    from api_server.graphql.system import SYSTEM_PART  # noqa: PLC0415 - a command line needs no face

    return SYSTEM_PART


def _preset_routers() -> "Sequence[APIRouter]":
    from api_server.api.presets import presets_router  # noqa: PLC0415 - as above

    return (presets_router(),)


def _preset_graphql() -> "GraphQLPart":
    from api_server.graphql.presets import PRESETS_PART  # noqa: PLC0415 - as above

    return PRESETS_PART


FOUNDATION = Application(
    name="api_server",
    version=version("api-server"),
    graphql=_graphql,
    requires_database=True,
    errors=ERROR_STATUSES,
)


PRESETS = Application(name="presets", version=FOUNDATION.version, routers=_preset_routers, graphql=_preset_graphql)


def parts_of(application: Application) -> tuple[Application, ...]:
    """Return what is served together: the foundation, presets where the application keeps any, and itself."""
    presets = (PRESETS,) if application.keeps_presets else ()
    return (FOUNDATION, *presets) if application is FOUNDATION else (FOUNDATION, *presets, application)


def selected_application() -> Application:
    """Return the application that `API_SERVER_APP` names, else the foundation."""
    path = get_settings().app
    return load_application(path) if path else FOUNDATION
