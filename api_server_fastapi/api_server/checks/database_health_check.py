"""Whether the database takes writes."""

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from api_server.readiness_pipeline import ReadinessCheck, ReadinessCheckResult

_IS_READ_ONLY = text("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean")


class DatabaseHealthCheck(ReadinessCheck):
    """Succeeds on a writable primary; a standby answers queries too and must not pass for one."""

    def __init__(self, engine: AsyncEngine | None) -> None:
        super().__init__("database_health", timeout=3.0)
        self._engine = engine

    async def _execute(self) -> ReadinessCheckResult:
        if self._engine is None:
            return self.failed("no database is configured")
        try:
            async with self._engine.connect() as connection:
                is_read_only = await connection.scalar(_IS_READ_ONLY)
        except (psycopg.OperationalError, OperationalError) as error:
            reason = error.orig if isinstance(error, OperationalError) else error
            return self.failed("the database cannot be reached", {"error": str(reason)})
        except (psycopg.ProgrammingError, ProgrammingError):
            # libpq quotes the part of the URL that it cannot read, which may be the password.
            return self.failed("the database's URL cannot be read")
        return self.failed("the database is read-only") if is_read_only else self.success("writable primary")
