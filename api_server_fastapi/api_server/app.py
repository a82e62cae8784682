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

from api_server.api.system import LIVENESS_PATHS, METRICS_PATH, PROBE_PATHS, READINESS_PATHS, system_router
from api_server.application import GRAPHQL_PROFILE, REST_PROFILE, Application
from api_server.database.connection import dispose_db
from api_server.draining import before_leaving
from api_server.exception_handlers import register_exception_handlers
from api_server.foundation import parts_of, selected_application
from api_server.graphql.router import GRAPHQL_PATH, graphql_router
from api_server.graphql.schema import build_schema
from api_server.identity import Authenticator, DevelopmentAuthenticator, NoProviderAuthenticator
from api_server.logging import configure_logging, setup_sqlalchemy_logging
from api_server.middlewares import CustomAuthenticationMiddleware, LogContextMiddleware
from api_server.processes import when_parent_ends
from api_server.services.di import (
    forget_application,
    get_event_bus,
    get_event_relay,
    get_health_check_service,
    get_primary,
    use_application,
)
from api_server.services.health_check_service import HealthCheckService
from api_server.services.registry import ServiceRegistry
from api_server.settings import Settings, get_settings

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
    authenticator = _authenticator(settings)
    parts = parts_of(application)
    errors = {error: status for part in parts for error, status in part.errors.items()}
    app = FastAPI(
        title=application.name,
        version=application.version,
        lifespan=svcs.fastapi.lifespan(_lifespan_of(application, parts), registry=ServiceRegistry()),
        middleware=[
            Middleware(LogContextMiddleware, quiet_paths=PROBE_PATHS),
            *_cors(settings),
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
        schema = build_schema([part.graphql() for part in parts if part.graphql], errors)
        app.include_router(graphql_router(schema, authenticator, legacy_sockets=settings.graphql_legacy_sockets))
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


def _authenticator(settings: Settings) -> Authenticator:
    if settings.env_type == "development":
        return DevelopmentAuthenticator()
    log.warning("no identity provider: what needs identity answers 401")
    return NoProviderAuthenticator()


def _lifespan_of(
    application: Application, parts: Sequence[Application]
) -> Callable[[FastAPI, svcs.Registry], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI, registry: svcs.Registry) -> AsyncIterator[None]:
        assert isinstance(registry, ServiceRegistry)
        # A worker whose supervisor was killed would hold the port for ever.
        when_parent_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
        async with AsyncExitStack() as running:
            use_application(application, registry=registry)
            running.callback(forget_application)
            running.push_async_callback(dispose_db)
            get_primary()
            running.push_async_callback(get_event_bus().aclose)
            for part in parts:
                if part.lifespan is not None:
                    await running.enter_async_context(asynccontextmanager(part.lifespan)(app, registry))
            # After the parts: they may have migrated, and what handlers read first lies in the tables.
            await running.enter_async_context(get_event_relay().relaying())
            health = get_health_check_service()
            await running.enter_async_context(health.refreshing())
            running.enter_context(before_leaving(health.drain))
            _tell(app, application, health)
            # What was made so far stays for good. A full collection that walked it would hold the event loop for tens
            # of milliseconds, every now and then.
            gc.collect()
            gc.freeze()
            # Nor is what hundreds of subscribers hold to be walked whenever it grew by a quarter: it comes and goes.
            gc.set_threshold(*_COLLECTION_THRESHOLDS)
            yield

    return lifespan


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
