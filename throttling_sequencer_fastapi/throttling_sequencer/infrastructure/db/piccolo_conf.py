"""Where Piccolo finds the sequencer's engine and tables, its own command too.

    PICCOLO_CONF=throttling_sequencer.infrastructure.db.piccolo_conf piccolo migrations check throttling_sequencer

Applying migrations by that command takes no lock, which `upgrade_all` does.
"""

from piccolo.apps.migrations.tables import Migration
from piccolo.conf.apps import AppRegistry

from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.tables import SCHEMA

__all__ = ["APP_REGISTRY", "DB"]

APP_REGISTRY = AppRegistry(apps=["throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.piccolo_app"])

# The record of what was applied stands beside what it is about.
Migration._meta.schema = SCHEMA  # noqa: SLF001 - Piccolo has no other way to say it
Migration._meta.db = DB  # noqa: SLF001 - nor to say this without a search for this very module
