"""Creates the table of stored plans."""

from typing import Any

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.columns import (
    JSONB,
    UUID,
    Array,
    BigInt,
    Bytea,
    Column,
    DoublePrecision,
    Integer,
    Text,
    Timestamptz,
)

from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.bounded_migration import bounded_migration

ID = "2026-11-27T10:05:31:482117"
VERSION = "1.38.0"
DESCRIPTION = "stored plans"

_COLUMNS: tuple[tuple[str, type[Column], dict[str, Any]], ...] = (
    ("id", UUID, {"primary_key": True}),
    ("owner_id", Text, {}),
    ("key", Text, {}),
    ("request_hash", Bytea, {}),
    ("request", JSONB, {}),
    ("targets", Array, {"base_column": Integer(default=None)}),
    ("throttles", JSONB, {}),
    ("score_parts", Array, {"base_column": DoublePrecision(default=None)}),
    ("lower_bounds", Array, {"base_column": DoublePrecision(default=None)}),
    ("final_speeds", Array, {"base_column": DoublePrecision(default=None)}),
    ("distances_covered", Array, {"base_column": DoublePrecision(default=None)}),
    ("strategy", Text, {}),
    ("seed", Integer, {"null": True}),
    ("size", Integer, {}),
    ("attempts", BigInt, {}),
    ("created_at", Timestamptz, {}),
)


async def forwards() -> MigrationManager:
    """Create the table; backwards, drop it."""
    manager = bounded_migration(ID, DESCRIPTION)
    manager.add_table("Plan", tablename="plan", schema="throttling_sequencer")
    for name, column_class, parameters in _COLUMNS:
        manager.add_column(
            "Plan",
            tablename="plan",
            schema="throttling_sequencer",
            column_name=name,
            db_column_name=name,
            column_class=column_class,
            params={"default": None, **parameters},
        )
    return manager
