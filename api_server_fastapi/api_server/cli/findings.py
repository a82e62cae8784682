"""What `doctor` says of the foundation's settings, each of which would do for itself."""

import os
from collections.abc import Iterator, Sequence

from pydantic_settings import BaseSettings

from api_server.application import GRAPHQL_PROFILE, REST_PROFILE, Application
from api_server.cli.identity_findings import identity_findings
from api_server.findings import Finding
from api_server.server import UvicornServerConfig
from api_server.settings import Settings, variables_of


def foundation_findings(application: Application, settings: Settings, server: UvicornServerConfig) -> Iterator[Finding]:
    """Yield what works otherwise than somebody may think."""
    yield from _of_spelling((Settings, UvicornServerConfig, *application.settings))
    yield from _of_profiles(application, settings)
    yield from identity_findings(settings)
    if settings.env_type == "production":
        yield from _of_production(settings, server)
    elif settings.believed == "development" and not server.is_loopback:
        yield Finding(
            "warning",
            ("ENV_TYPE", "UVICORN_HOST"),
            f"Development identity on {server.host}, which is no loopback address: whoever reaches it is believed to "
            "be who they say. Listen on 127.0.0.1, or set ENV_TYPE=production.",
        )


def _of_production(settings: Settings, server: UvicornServerConfig) -> Iterator[Finding]:
    if settings.log_level == "DEBUG":
        yield Finding(
            "warning", ("API_SERVER_LOG_LEVEL",), "DEBUG in production: the log is slow, large, and says too much."
        )
    if settings.sqlalchemy_log_level in {"DEBUG", "INFO"}:
        yield Finding(
            "warning",
            ("API_SERVER_SQLALCHEMY_LOG_LEVEL",),
            f"{settings.sqlalchemy_log_level} in production: every statement is written to the log.",
        )
    # It serves, and so is no error; it only ends what goes on when somebody else would not expect it.
    if server.reload:
        yield Finding(
            "warning",
            ("UVICORN_RELOAD",),
            "Reload in production: one process serves, and starts again under its clients when a file changes.",
        )
    if server.forwarded_allow_ips == "*":
        sentence = "* in production: every client may say which address it has. Name the proxies."
        yield Finding("warning", ("UVICORN_FORWARDED_ALLOW_IPS",), sentence)
    if settings.telemetry == "console":
        sentence = "Spans on standard output in production: for a look, not for good."
        yield Finding("warning", ("API_SERVER_TELEMETRY",), sentence)
    shown = {
        "API_SERVER_GRAPHQL_INTROSPECTION": settings.has_introspection,
        "API_SERVER_GRAPHQL_IDE": settings.has_graphql_ide,
        "API_SERVER_GRAPHQL_SUGGESTIONS": settings.has_suggestions,
    }
    if any(shown.values()):
        variables = tuple(variable for variable, is_on in shown.items() if is_on)
        yield Finding("warning", variables, "In production: everybody who is known may learn the schema.")
    if "*" in settings.cors_origins:
        yield Finding(
            "warning", ("API_SERVER_CORS_ORIGINS",), "* in production: every page of the web may read the answers."
        )


def _of_profiles(application: Application, settings: Settings) -> Iterator[Finding]:
    """Tell of faces that were chosen and have nothing to show; a face itself is not imported for that."""
    empty = set()
    if application.routers is tuple:
        empty.add(REST_PROFILE)
    if application.graphql is None:
        empty.add(GRAPHQL_PROFILE)
    if settings.profiles and set(settings.profiles) <= empty:
        yield Finding(
            "warning",
            ("API_SERVER_PROFILES",),
            f"{application.name} has nothing under {', '.join(settings.profiles)}: the foundation's own paths are all "
            "that is served.",
        )


def _of_spelling(classes: Sequence[type[BaseSettings]]) -> Iterator[Finding]:
    """Tell of variables that are set more than once: which of them is read is chance."""
    known = {variable for cls in classes for variable in variables_of(cls)}
    for variable in sorted(known):
        spellings = sorted(name for name, value in os.environ.items() if value and name.upper() == variable)
        if len({os.environ[name] for name in spellings}) > 1:
            yield Finding("warning", spellings, "One variable, set to several values: which is read is chance.")
