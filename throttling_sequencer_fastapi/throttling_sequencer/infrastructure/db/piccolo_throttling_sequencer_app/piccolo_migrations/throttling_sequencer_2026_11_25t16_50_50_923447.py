"""Creates the request log, in a schema of the sequencer's own."""

from typing import Any

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.columns import UUID, Column, DoublePrecision, Text

from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.bounded_migration import bounded_migration

ID = "2026-11-25T16:50:50:923447"
VERSION = "1.38.0"
DESCRIPTION = "the request log"

_COLUMNS: tuple[tuple[str, type[Column], dict[str, Any]], ...] = (
    ("operation_id", UUID, {"primary_key": True}),
    ("request_id", Text, {}),
    ("operation_name", Text, {"null": True}),
    ("user_id", Text, {}),
    ("unix_time", DoublePrecision, {"index": True}),
    ("duration_ms", DoublePrecision, {}),
    ("outcome", Text, {}),
)


async def forwards() -> MigrationManager:
    """Create the table; backwards, drop it."""
    manager = bounded_migration(ID, DESCRIPTION)
    manager.add_table("GqlRequestInfo", tablename="gql_request_info", schema="throttling_sequencer")
    for name, column_class, parameters in _COLUMNS:
        manager.add_column(
            "GqlRequestInfo",
            tablename="gql_request_info",
            schema="throttling_sequencer",
            column_name=name,
            db_column_name=name,
            column_class=column_class,
            params={"default": None, **parameters},
        )
    return manager
