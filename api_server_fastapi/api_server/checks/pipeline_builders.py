"""Which checks make up the readiness of a server."""

from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from api_server.checks.database_health_check import DatabaseHealthCheck
from api_server.checks.database_initialization_check import DatabaseInitializationCheck
from api_server.checks.database_schema_check import DatabaseSchemaCheck
from api_server.checks.event_listener_check import EventListener, EventListenerCheck
from api_server.checks.service_ping_check import Ping, ServicePingCheck
from api_server.database.migration_backend import MigrationBackend
from api_server.readiness_pipeline import Damping, ReadinessPipeline, ReadinessPipelineBuilder, ReadinessStage


def server_pipeline(
    engine: AsyncEngine | None,
    backends: Sequence[MigrationBackend] = (),
    *,
    requires_database: bool,
    uses_database: bool = True,
    listener: EventListener | None = None,
    pings: Mapping[str, Ping] | None = None,
    stages: Sequence[ReadinessStage] = (),
    damping: Damping | None = None,
) -> ReadinessPipeline:
    """Compose the database stage, critical where the service is nothing without it, and what else there is to check.

    Raises ValueError where two stages or checks have one name.
    """
    builder = ReadinessPipelineBuilder()
    builder.add_stage("database", is_critical=requires_database, fail_fast=True)
    builder.add_check(DatabaseInitializationCheck(engine, is_needed=uses_database or requires_database))
    builder.add_check(DatabaseHealthCheck(engine))
    builder.add_check(DatabaseSchemaCheck(backends))
    if listener is not None:
        builder.add_stage("events").add_check(EventListenerCheck(listener))
    if pings:
        builder.add_stage("services")
        for name, ping in pings.items():
            builder.add_check(ServicePingCheck(name, ping))
    for stage in stages:
        builder.add_stage(stage)
    return builder.build(damping=damping)
