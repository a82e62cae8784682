"""Creates the indexes of stored plans: one that keeps a plan once for each key, and one to page through them."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.bounded_migration import bounded_migration
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB

ID = "2026-11-27T10:06:02:907344"
VERSION = "1.38.0"
DESCRIPTION = "keys and pages of stored plans"


async def forwards() -> MigrationManager:
    """Create the indexes; backwards, drop them.

    A migration of its own, because what Piccolo is told as SQL it runs before it creates tables.
    """
    manager = bounded_migration(ID, DESCRIPTION)
    manager.add_raw(_create_indexes)
    manager.add_raw_backwards(_drop_indexes)
    return manager


async def _create_indexes() -> None:
    await DB.run_ddl("CREATE UNIQUE INDEX plan_owner_id_key ON throttling_sequencer.plan (owner_id, key)")
    await DB.run_ddl("CREATE INDEX plan_owner_id_id ON throttling_sequencer.plan (owner_id, id)")


async def _drop_indexes() -> None:
    await DB.run_ddl("DROP INDEX throttling_sequencer.plan_owner_id_key, throttling_sequencer.plan_owner_id_id")
