"""What every migration of the sequencer begins with."""

from typing import Any

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.query.base import DDL, Query
from piccolo.query.methods.create import Create
from piccolo.querystring import QueryString
from piccolo.schema import SchemaDDLBase

from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB


class _MigrationManager(MigrationManager):
    """Creates the schema of a table only where it is not there: PostgreSQL asks for the right to, even if it is."""

    async def _run_query(self, query: DDL | Query[Any, Any] | SchemaDDLBase) -> None:
        if isinstance(query, Create) and (schema := query.table._meta.schema):  # noqa: SLF001 - Piccolo's own habit
            query.auto_create_schema = not await has_schema(schema)
        await super()._run_query(query)


async def has_schema(name: str) -> bool:
    """Return whether there is a schema of this name, whoever may use it."""
    return bool(await DB.run_querystring(QueryString("SELECT 1 FROM pg_namespace WHERE nspname = {}", name)))


def bounded_migration(
    migration_id: str, description: str, *, lock_timeout: str = "5s", statement_timeout: str = "60s"
) -> MigrationManager:
    """Begin a migration of which no statement waits for a lock, or runs, for longer than this, forwards and back.

    A statement that waits for a lock makes everybody wait who comes after it: better that the migration fails, and is
    repeated at a quieter time. The limits are those of the migration's transaction, or, where it goes without one, of
    the connection, until the next migration sets its own.
    """

    async def set_limits() -> None:
        is_local = manager.wrap_in_transaction
        settings = "SELECT set_config('lock_timeout', {}, {}), set_config('statement_timeout', {}, {})"
        await DB.run_querystring(QueryString(settings, lock_timeout, is_local, statement_timeout, is_local))

    manager = _MigrationManager(migration_id=migration_id, app_name="throttling_sequencer", description=description)
    manager.add_raw(set_limits)
    manager.add_raw_backwards(set_limits)
    return manager
