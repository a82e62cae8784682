"""Whether the database takes writes."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api_server.checks.database_check import DatabaseCheck
from api_server.readiness_pipeline import ReadinessCheckResult

_IS_READ_ONLY = text("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean")


class DatabaseHealthCheck(DatabaseCheck):
    """Succeeds on a writable primary; a standby answers queries too and must not pass for one."""

    def __init__(self, engine: AsyncEngine | None) -> None:
        super().__init__("database_health", engine)

    async def _ask(self, connection: AsyncConnection) -> ReadinessCheckResult:
        is_read_only = await connection.scalar(_IS_READ_ONLY)
        return self.failed("the database is read-only") if is_read_only else self.success("writable primary")
