"""Composes an application and the foundation into one FastAPI app."""

import gc
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import structlog
import svcs.fastapi
from fastapi import FastAPI
from starlette.middleware import Middleware

from api_server.api.system import PUBLIC_PATHS
from api_server.application import Application, load_application
from api_server.checks.pipeline_builders import server_pipeline
from api_server.database.connection import create_engine
from api_server.exception_handlers import register_exception_handlers
from api_server.foundation import FOUNDATION
from api_server.graphql.router import graphql_router
from api_server.graphql.schema import build_schema
from api_server.identity import Authenticator, DevelopmentAuthenticator, NoProviderAuthenticator
from api_server.logging import configure_logging
from api_server.middlewares import CustomAuthenticationMiddleware, LogContextMiddleware
from api_server.processes import when_parent_ends
from api_server.services.health_check_service import HealthCheckService
from api_server.services.registry import ServiceRegistry
from api_server.settings import Settings, get_settings, read_settings

# Objects made before a young collection, young ones before a middle one, middle ones before a full one.
_COLLECTION_THRESHOLDS = (2_000, 10, 10)

log = structlog.get_logger("api_server.app")


def create_app(application: Application) -> FastAPI:
    """Serve an application merged with the foundation.

    Raises SettingsError where an environment variable of either is malformed or unknown.
    """
    read_settings(Settings, *application.settings)
    settings = get_settings()
    configure_logging(settings.log_level, settings.log_format)
    authenticator = _authenticator(settings)
    parts = (FOUNDATION,) if application is FOUNDATION else (FOUNDATION, application)
    errors = {error: status for part in parts for error, status in part.errors.items()}
    app = FastAPI(
        title=application.name,
        version=application.version,
        lifespan=svcs.fastapi.lifespan(_lifespan_of(application, parts), registry=ServiceRegistry()),
        middleware=[
            Middleware(LogContextMiddleware, quiet_paths=PUBLIC_PATHS),
            Middleware(CustomAuthenticationMiddleware, authenticator=authenticator, public_paths=PUBLIC_PATHS),
            *application.middleware,
        ],
    )
    register_exception_handlers(app, errors)
    for part in parts:
        for router in part.routers():
            app.include_router(router)
    schema = build_schema([part.graphql() for part in parts if part.graphql], errors)
    app.include_router(graphql_router(schema, authenticator, legacy_sockets=settings.graphql_legacy_sockets))
    return app


def create_selected_app() -> FastAPI:
    """Serve the application that `API_SERVER_APP` names, else the foundation alone: uvicorn's factory."""
    return create_app(selected_application())


def selected_application() -> Application:
    """Return the application that `API_SERVER_APP` names, else the foundation."""
    path = get_settings().app
    return load_application(path) if path else FOUNDATION


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
        registry.register_value(Application, application)
        for part in parts:
            part.register(registry)
        # A worker whose supervisor was killed would hold the port for ever.
        when_parent_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
        async with AsyncExitStack() as running:
            url = application.primary_url()
            engine = create_engine(url) if url else None
            if engine is not None:
                running.push_async_callback(engine.dispose)
            for part in parts:
                if part.lifespan is not None:
                    await running.enter_async_context(asynccontextmanager(part.lifespan)(app, registry))
            stages = [stage for part in parts for stage in part.stages()]
            pipeline = server_pipeline(engine, requires_database=application.requires_database, stages=stages)
            health = HealthCheckService(pipeline)
            registry.register_value(HealthCheckService, health)
            await running.enter_async_context(health.refreshing())
            # What was made so far stays for good. A full collection that walked it would hold the event loop for tens
            # of milliseconds, every now and then.
            gc.collect()
            gc.freeze()
            # Nor is what hundreds of subscribers hold to be walked whenever it grew by a quarter: it comes and goes.
            gc.set_threshold(*_COLLECTION_THRESHOLDS)
            yield

    return lifespan
