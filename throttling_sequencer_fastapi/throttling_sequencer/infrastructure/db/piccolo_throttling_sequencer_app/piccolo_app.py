"""The sequencer's tables as an app of Piccolo's."""

from pathlib import Path

from piccolo.conf.apps import AppConfig

from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.tables import GqlRequestInfo, Plan

APP_CONFIG = AppConfig(
    app_name="throttling_sequencer",
    migrations_folder_path=Path(__file__).parent / "piccolo_migrations",
    table_classes=[GqlRequestInfo, Plan],
)
