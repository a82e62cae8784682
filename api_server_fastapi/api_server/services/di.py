"""Which services a process has: one registry, filled by the foundation and by the application that is in use."""

from functools import lru_cache

from sqlalchemy.ext.asyncio import AsyncEngine

from api_server.application import Application
from api_server.checks.pipeline_builders import server_pipeline
from api_server.database.connection import create_engine
from api_server.readiness_pipeline import Damping, ReadinessPipeline
from api_server.services.health_check_service import HealthCheckService
from api_server.services.registry import ServiceRegistry
from api_server.settings import get_settings


class _Process:
    """What this process has in use."""

    registry: ServiceRegistry | None = None


def use_application(application: Application, *, registry: ServiceRegistry | None = None) -> ServiceRegistry:
    """Make this application the process's own, and return the registry of its services and the foundation's.

    Using it again returns the same registry. Raises RuntimeError where another application, or the same one with
    another registry, is in use; `forget_application` ends that.
    """
    used = _Process.registry
    if used is None:
        registry = registry or ServiceRegistry()
        register_services(registry, application)
        _Process.registry = registry
        return registry
    if used.get(Application) is not application or registry not in (None, used):
        raise RuntimeError(
            f"this process uses the application {get_application().name!r} already and cannot use "
            f"{application.name!r} beside it: call forget_application() first"
        )
    return used


def register_services(registry: ServiceRegistry, application: Application) -> None:
    """Register the application's services, and the foundation's, which it cannot replace: their getters give them."""
    application.register(registry)
    registry.register_value(Application, application)
    registry.register_singleton(ReadinessPipeline, get_readiness_pipeline)
    registry.register_singleton(HealthCheckService, get_health_check_service)


def forget_application() -> None:
    """End the use of the process's application. Closing its registry is up to whoever opened it."""
    _Process.registry = None
    for getter in (get_engine, get_readiness_pipeline, get_health_check_service):
        getter.cache_clear()


def get_registry() -> ServiceRegistry:
    """Return the process's registry. Raises RuntimeError where no application is in use."""
    if _Process.registry is None:
        raise RuntimeError("no application is in use: use_application() comes first, as create_app() sees to")
    return _Process.registry


def get_application() -> Application:
    """Return the application that is in use."""
    return get_registry().get(Application)


@lru_cache
def get_engine() -> AsyncEngine | None:
    """Return the engine of the primary; None where no database is configured."""
    url = get_application().primary_url()
    return create_engine(url) if url else None


@lru_cache
def get_readiness_pipeline() -> ReadinessPipeline:
    """Return the pipeline of this process: the database, the services that can be pinged, the application's stages."""
    application, settings = get_application(), get_settings()
    return server_pipeline(
        get_engine(),
        application.migrations(),
        requires_database=application.requires_database,
        uses_database=application.uses_database(),
        pings=get_registry().pings(),
        stages=application.stages(),
        damping=Damping(settings.readiness_failures, settings.readiness_successes),
    )


@lru_cache
def get_health_check_service() -> HealthCheckService:
    """Return the service that keeps the readiness report of this process."""
    return HealthCheckService(get_readiness_pipeline(), period=get_settings().readiness_period_s)
