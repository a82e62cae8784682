"""Creates the index by which users page through their own requests."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.bounded_migration import bounded_migration
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB

ID = "2026-11-25T17:05:12:310268"
VERSION = "1.38.0"
DESCRIPTION = "pages of the request log"


async def forwards() -> MigrationManager:
    """Create the index; backwards, drop it.

    A migration of its own, because what Piccolo is told as SQL it runs before it creates tables.
    """
    manager = bounded_migration(ID, DESCRIPTION)
    manager.add_raw(_create_index)
    manager.add_raw_backwards(_drop_index)
    return manager


async def _create_index() -> None:
    await DB.run_ddl(
        "CREATE INDEX gql_request_info_user_id_operation_id"
        " ON throttling_sequencer.gql_request_info (user_id, operation_id)"
    )


async def _drop_index() -> None:
    await DB.run_ddl("DROP INDEX throttling_sequencer.gql_request_info_user_id_operation_id")
