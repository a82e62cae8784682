"""Whether the tables are as the code expects them."""

from collections.abc import Sequence

from api_server.database.migration_backend import (
    MigrationBackend,
    MigrationError,
    pending_migrations,
    unknown_migrations,
)
from api_server.readiness_pipeline import ReadinessCheck, ReadinessCheckResult


class DatabaseSchemaCheck(ReadinessCheck):
    """Succeeds where no backend has a migration that is not applied; warns where those of a newer release are.

    The tables are what that release made of them, as after a rollback: to be served with, and to be known of.
    A success is kept until the database is lost; after that it may be another one, and is looked at again.
    """

    def __init__(self, backends: Sequence[MigrationBackend]) -> None:
        super().__init__("database_schema", run_once=True)
        self._backends = tuple(backends)

    async def _execute(self) -> ReadinessCheckResult:
        if not self._backends:
            return self.not_applicable("there are no migrations")
        try:
            pending = await pending_migrations(self._backends)
            unknown = await unknown_migrations(self._backends)
        except MigrationError as error:
            return self.failed("the migrations cannot be read", {"error": str(error)})
        if not pending and unknown:
            return self.warning("migrations of a newer release are applied", dict(unknown))
        if not pending:
            return self.success("up to date", {"backends": [backend.name for backend in self._backends]})
        number = sum(map(len, pending.values()))
        return self.failed(f"pending migrations: {number} (api-server-cli db upgrade)", dict(pending))
