"""What every migration of the sequencer begins with."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.querystring import QueryString

from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB


def bounded_migration(
    migration_id: str, description: str, *, lock_timeout: str = "5s", statement_timeout: str = "60s"
) -> MigrationManager:
    """Begin a migration of which no statement waits for a lock, or runs, for longer than this, forwards and back.

    A statement that waits for a lock makes everybody wait who comes after it: better that the migration fails, and is
    repeated at a quieter time. The limits are those of the migration's transaction.
    """

    async def set_limits() -> None:
        settings = "SELECT set_config('lock_timeout', {}, true), set_config('statement_timeout', {}, true)"
        await DB.run_querystring(QueryString(settings, lock_timeout, statement_timeout))

    manager = MigrationManager(migration_id=migration_id, app_name="throttling_sequencer", description=description)
    manager.add_raw(set_limits)
    manager.add_raw_backwards(set_limits)
    return manager
