"""Which checks make up the readiness of a server."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from api_server.checks.database_health_check import DatabaseHealthCheck
from api_server.readiness_pipeline import ReadinessPipeline, ReadinessStage


def server_pipeline(
    engine: AsyncEngine | None, *, requires_database: bool, stages: Sequence[ReadinessStage] = ()
) -> ReadinessPipeline:
    """Compose the foundation's database stage, critical where the service is nothing without it, and `stages`."""
    database = ReadinessStage("database", (DatabaseHealthCheck(engine),), is_critical=requires_database)
    return ReadinessPipeline((database, *stages))
