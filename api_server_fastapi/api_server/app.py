"""Composes an application and the foundation into one FastAPI app."""

import gc
import os
import signal
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import structlog
import svcs.fastapi
from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from api_server.api.documentation import complete_documentation
from api_server.api.system import LIVENESS_PATHS, METRICS_PATH, PROBE_PATHS, READINESS_PATHS, system_router
from api_server.application import GRAPHQL_PROFILE, REST_PROFILE, Application
from api_server.database.connection import dispose_db
from api_server.draining import Draining
from api_server.exception_handlers import register_exception_handlers
from api_server.foundation import parts_of, selected_application
from api_server.graphql.guard import GraphQLLimits
from api_server.graphql.measured import measure_graphql
from api_server.graphql.open_sockets import OpenSockets, SocketLimits
from api_server.graphql.router import GRAPHQL_PATH, graphql_router
from api_server.graphql.schema import build_schema
from api_server.identity import Authenticator, authenticator_of
from api_server.logging import configure_logging, setup_sqlalchemy_logging
from api_server.middlewares import (
    BodyLimitMiddleware,
    CustomAuthenticationMiddleware,
    DrainingMiddleware,
    LogContextMiddleware,
    MetricsMiddleware,
    SecurityHeadersMiddleware,
)
from api_server.middlewares.route_path import route_path
from api_server.processes import when_parent_ends
from api_server.services.di import (
    forget_application,
    get_draining,
    get_event_bus,
    get_event_relay,
    get_health_check_service,
    get_loop_watch,
    get_metrics,
    get_operation_numbers,
    get_primary,
    get_request_numbers,
    use_application,
)
from api_server.services.health_check_service import HealthCheckService
from api_server.services.measured import measure_foundation
from api_server.services.registry import ServiceRegistry
from api_server.settings import Settings, get_settings
from api_server.telemetry import Telemetry, set_up_telemetry

# FastAPI's own pages.
DOCUMENTATION_PATHS = ("/docs", "/docs/oauth2-redirect", "/redoc")

# What handlers may take to end.
_HANDLERS_S = 5.0

# Objects made before a young collection, young ones before a middle one, middle ones before a full one.
_COLLECTION_THRESHOLDS = (2_000, 10, 10)

log = structlog.get_logger("api_server.app")


def create_app(application: Application) -> FastAPI:
    """Serve an application merged with the foundation, by the faces that `API_SERVER_PROFILES` names.

    Raises SettingsError where an environment variable of either is malformed or unknown.
    """
    application.check_environment()
    settings = get_settings()
    configure_logging(settings.log_level, settings.log_format)
    setup_sqlalchemy_logging(settings.sqlalchemy_log_level)
    telemetry = set_up_telemetry(settings, application.name, application.version)
    authenticator = authenticator_of(settings)
    parts = parts_of(application)
    errors = {error: status for part in parts for error, status in part.errors.items()}
    app = FastAPI(
        title=application.name,
        version=application.version,
        # The redirect would lead to whichever host the request names.
        redirect_slashes=False,
        lifespan=svcs.fastapi.lifespan(
            _lifespan_of(application, parts, telemetry, authenticator), registry=ServiceRegistry()
        ),
        telemetry=telemetry.for_fastapi(exclude=lambda scope: route_path(scope) in PROBE_PATHS),
        middleware=[
            Middleware(LogContextMiddleware, quiet_paths=PROBE_PATHS, is_leaving=lambda: get_draining().is_draining),
            Middleware(DrainingMiddleware, is_draining=lambda: get_draining().is_draining),
            Middleware(MetricsMiddleware, numbers=get_request_numbers),
            Middleware(SecurityHeadersMiddleware, pages=(*DOCUMENTATION_PATHS, GRAPHQL_PATH)),
            *_cors(settings),
            Middleware(
                BodyLimitMiddleware, limit=settings.body_limit, limits={GRAPHQL_PATH: settings.graphql_body_limit}
            ),
            Middleware(
                CustomAuthenticationMiddleware,
                authenticator=authenticator,
                public_paths=(*LIVENESS_PATHS, METRICS_PATH),
                open_paths=READINESS_PATHS,
            ),
            *application.middleware,
        ],
    )
    register_exception_handlers(app, errors)
    app.include_router(system_router())
    profiles = application.active_profiles()
    for router in _routers(parts, profiles):
        app.include_router(router)
    if GRAPHQL_PROFILE in profiles:
        limits = GraphQLLimits.of(settings)
        schema = build_schema([part.graphql() for part in parts if part.graphql], errors, limits)
        app.state.documents = schema.documents
        app.include_router(
            graphql_router(
                schema,
                authenticator,
                legacy_sockets=settings.graphql_legacy_sockets,
                allowed_origins=settings.cors_origins,
                graphql_ide=settings.has_graphql_ide,
            )
        )
    complete_documentation(app, public_paths=(*LIVENESS_PATHS, METRICS_PATH), graphql_path=GRAPHQL_PATH)
    return app


def create_selected_app() -> FastAPI:
    """Serve the application that `API_SERVER_APP` names, else the foundation alone: uvicorn's factory."""
    return create_app(selected_application())


def _routers(parts: Sequence[Application], profiles: Collection[str]) -> Iterator[APIRouter]:
    for part in parts:
        for name, routers in {REST_PROFILE: part.routers, **part.profiles}.items():
            if name in profiles:
                yield from routers()


def _cors(settings: Settings) -> list[Middleware]:
    """Let pages of other origins ask, where the settings name any; closed otherwise."""
    if not settings.cors_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_credentials=settings.cors_credentials,
            allow_methods=["*"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "X-Request-ID"],
            expose_headers=["ETag", "Location", "Retry-After", "X-Correlation-ID", "X-Request-ID"],
        )
    ]


def _lifespan_of(
    application: Application, parts: Sequence[Application], telemetry: Telemetry, authenticator: Authenticator
) -> Callable[[FastAPI, svcs.Registry], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI, registry: svcs.Registry) -> AsyncIterator[None]:
        assert isinstance(registry, ServiceRegistry)
        # A worker whose supervisor was killed would hold the port for ever.
        when_parent_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
        async with AsyncExitStack() as running:
            await running.enter_async_context(telemetry.delivering())
            use_application(application, registry=registry)
            running.callback(forget_application)
            draining = get_draining()
            sockets = OpenSockets(SocketLimits.of(get_settings()))
            registry.register_value(OpenSockets, sockets)
            draining.on_closing(sockets.close)
            # First, so that a start that is asked to end and hangs is ended too.
            await running.enter_async_context(draining.leaving())
            running.push_async_callback(authenticator.aclose)
            running.push_async_callback(dispose_db)
            get_primary()
            running.push_async_callback(get_event_bus().aclose)
            for part in parts:
                if part.lifespan is not None:
                    await running.enter_async_context(asynccontextmanager(part.lifespan)(app, registry))
            # Once more, because it is what ends first: handlers that run need what the parts run.
            running.push_async_callback(_close_bus, draining)
            # After the parts: they may have migrated, and what handlers read first lies in the tables.
            await running.enter_async_context(get_event_relay().relaying())
            health = get_health_check_service()
            await running.enter_async_context(health.refreshing())
            draining.on_draining(health.drain)
            _tell(app, application, health)
            # What was made so far stays for good. A full collection that walked it would hold the event loop for tens
            # of milliseconds, every now and then.
            gc.collect()
            gc.freeze()
            # Nor is what hundreds of subscribers hold to be walked whenever it grew by a quarter: it comes and goes.
            gc.set_threshold(*_COLLECTION_THRESHOLDS)
            _measure(app, application, registry)
            await running.enter_async_context(get_metrics().published())
            await running.enter_async_context(get_loop_watch().watching())
            yield

    return lifespan


async def _close_bus(draining: Draining) -> None:
    """Let handlers end, in half of the time that is left at most."""
    await get_event_bus().aclose(min(_HANDLERS_S, draining.left / 2))


def _measure(app: FastAPI, application: Application, registry: ServiceRegistry) -> None:
    """Have the numbers of what is served, from the first answer on."""
    get_request_numbers()
    measure_foundation(
        get_metrics(),
        application,
        health=get_health_check_service(),
        bus=get_event_bus(),
        relay=get_event_relay(),
        engine=get_primary(),
    )
    if (documents := getattr(app.state, "documents", None)) is not None:
        get_operation_numbers()
        measure_graphql(get_metrics(), documents, registry.get(OpenSockets))


def _tell(app: FastAPI, application: Application, health: HealthCheckService) -> None:
    """Say in one line what is served, and in which state."""
    endpoints = {"liveness": LIVENESS_PATHS[0], "readiness": READINESS_PATHS[0], "documentation": str(app.docs_url)}
    profiles = application.active_profiles()
    if GRAPHQL_PROFILE in profiles:
        endpoints["graphql"] = GRAPHQL_PATH
    log.info(
        "service started",
        application=application.name,
        version=application.version,
        state=str(health.state),
        profiles=sorted(profiles),
        **endpoints,
    )
