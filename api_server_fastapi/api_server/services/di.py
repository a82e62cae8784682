"""Which services a process has: one registry, filled by the foundation and by the application that is in use."""

from functools import lru_cache

from sqlalchemy.ext.asyncio import AsyncEngine

from api_server.application import Application
from api_server.checks.pipeline_builders import server_pipeline
from api_server.database.connection import init_db, renew_connections
from api_server.draining import Draining
from api_server.event_bus import EventBus
from api_server.loop_watch import LoopWatch
from api_server.metrics import Metrics
from api_server.readiness_pipeline import Damping, ReadinessPipeline
from api_server.services.event_relay import EventRelay
from api_server.services.health_check_service import HealthCheckService
from api_server.services.logged_event_bus import LoggedEventBus
from api_server.services.measured import OperationNumbers, RequestNumbers
from api_server.services.migrations import migrations_of
from api_server.services.preset_service import PresetService
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
    registry.register_singleton(Draining, get_draining)
    registry.register_singleton(Metrics, get_metrics)
    registry.register_singleton(EventBus, get_event_bus)
    registry.register_singleton(EventRelay, get_event_relay)
    if application.keeps_presets:
        registry.register_singleton(PresetService, get_preset_service)


def forget_application() -> None:
    """End the use of the process's application. Closing its registry is up to whoever opened it."""
    _Process.registry = None
    for getter in (
        get_draining,
        get_metrics,
        get_request_numbers,
        get_operation_numbers,
        get_loop_watch,
        get_primary,
        get_event_bus,
        get_event_relay,
        get_preset_service,
        get_readiness_pipeline,
        get_health_check_service,
    ):
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
def get_draining() -> Draining:
    """Return how this process leaves."""
    settings = get_settings()
    return Draining(settings.drain_delay, settings.leave_within_s)


@lru_cache
def get_metrics() -> Metrics:
    """Return the numbers of the process."""
    return Metrics()


@lru_cache
def get_request_numbers() -> RequestNumbers:
    """Return what counts HTTP requests."""
    return RequestNumbers(get_metrics())


@lru_cache
def get_operation_numbers() -> OperationNumbers:
    """Return what counts GraphQL operations."""
    return OperationNumbers(get_metrics())


@lru_cache
def get_loop_watch() -> LoopWatch:
    """Return what watches the event loop of this process."""
    return LoopWatch(get_metrics(), get_settings().loop_watchdog_ms / 1000)


@lru_cache
def get_primary() -> AsyncEngine | None:
    """Return the engine of the primary, which is the process's own; None where no database is configured."""
    url = get_application().primary_url()
    return init_db(url) if url else None


@lru_cache
def get_event_bus() -> EventBus:
    """Return the bus of this process, with the application's handlers. Raises HandlerRefusedError."""
    bus = LoggedEventBus(get_registry())
    for event_type, handlers in get_application().event_handlers.items():
        for handler in handlers:
            bus.register(event_type, handler)
    return bus


@lru_cache
def get_event_relay() -> EventRelay:
    """Return what carries events to the bus of every process, by the database that the application uses."""
    application = get_application()
    url = application.primary_url() if application.needs_database else None
    # When it begins to hear again, the pool's connections may lead where nobody answers any more.
    return EventRelay(get_event_bus(), url, begins=renew_connections)


@lru_cache
def get_preset_service() -> PresetService:
    """Return what keeps the presets of the application's kinds."""
    return PresetService(get_application().preset_kinds, get_event_relay())


@lru_cache
def get_readiness_pipeline() -> ReadinessPipeline:
    """Return the pipeline of this process: the database, the services that can be pinged, the application's stages."""
    application, settings = get_application(), get_settings()
    return server_pipeline(
        get_primary(),
        migrations_of(application),
        requires_database=application.requires_database,
        uses_database=application.uses_database(),
        listener=relay if (relay := get_event_relay()).is_relaying else None,
        pings=get_registry().pings(),
        stages=application.stages(),
        damping=Damping(settings.readiness_failures, settings.readiness_successes),
    )


@lru_cache
def get_health_check_service() -> HealthCheckService:
    """Return the service that keeps the readiness report of this process."""
    return HealthCheckService(get_readiness_pipeline(), period=get_settings().readiness_period_s)
