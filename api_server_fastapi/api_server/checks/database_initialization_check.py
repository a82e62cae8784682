"""Whether there is a database that this service can work with at all."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api_server.checks.database_check import DatabaseCheck
from api_server.readiness_pipeline import ReadinessCheckResult

OLDEST_POSTGRES = 14

_FACTS = text("""
    SELECT current_setting('server_version_num')::int / 10000, current_setting('server_version'),
           current_setting('server_encoding'), current_database(), current_user, pg_backend_pid()
""")


class DatabaseInitializationCheck(DatabaseCheck):
    """Succeeds once a database is configured and lets itself be used: its version, its encoding, the login.

    What it finds does not change while the server runs, so that a success is kept. Where no database is needed and
    none is configured, the whole stage does not apply.
    """

    def __init__(self, engine: AsyncEngine | None, *, is_needed: bool = True) -> None:
        super().__init__("database_initialization", engine, run_once=True)
        self._is_needed = is_needed

    async def _execute(self) -> ReadinessCheckResult:
        if self._engine is None and not self._is_needed:
            return self.skip_stage("this service keeps nothing in a database")
        return await super()._execute()

    async def _ask(self, connection: AsyncConnection) -> ReadinessCheckResult:
        major, version, encoding, database, user, pid = (await connection.execute(_FACTS)).one()
        details = {"version": version, "database": database, "user": user}
        if major < OLDEST_POSTGRES:
            return self.failed(f"PostgreSQL {major} is too old: {OLDEST_POSTGRES} or newer is needed", details)
        if encoding != "UTF8":
            return self.failed(f"the database is encoded as {encoding}, and should be as UTF8", details)
        # A pooler invents the number that it tells its clients.
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        if driver.info.backend_pid != pid:
            return self.warning("a connection pooler: locks need API_SERVER_DATABASE_URL of the primary", details)
        return self.success("it can be used", details)
