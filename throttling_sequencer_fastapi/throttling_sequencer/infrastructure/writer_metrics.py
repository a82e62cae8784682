"""The pool and the server that it leads to, as numbers."""

from typing import TYPE_CHECKING

from api_server.metrics import Metrics

from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB
from throttling_sequencer.infrastructure.writer_events import LoggedWriterEvents

if TYPE_CHECKING:
    from throttling_sequencer.infrastructure.db.primary import Writer


class MeasuredWriterEvents(LoggedWriterEvents):
    """Counts what it writes lines for."""

    def __init__(self, metrics: Metrics) -> None:
        self._changes = metrics.counter("database_writer_changes", "Times that another server took the writes.")
        self._losses = metrics.counter("database_writer_losses", "Times that no server was found that takes writes.")
        self._fences = metrics.counter("database_writer_fences", "Times that a server that was the writer was refused.")
        self._is_lost = False
        metrics.gauge("database_writer_missing", "Workers that find no writer.", lambda: self._is_lost)
        metrics.gauge(
            "database_writer_timeline",
            "The writer's timeline, which grows with each promotion.",
            _timeline,
            workers="max",
        )
        for state, read in {"used": _used, "idle": _idle, "most": _most}.items():
            metrics.gauge("database_pool_connections", "Connections of the pool.", read, state=state)

    def changed(self, before: "Writer | None", after: "Writer", outage_s: float) -> None:
        if before is not None:
            self._changes.inc()
        self._is_lost = False
        super().changed(before, after, outage_s)

    def returned(self, writer: "Writer", outage_s: float) -> None:
        self._is_lost = False
        super().returned(writer, outage_s)

    def lost(self, reason: str) -> None:
        self._losses.inc()
        self._is_lost = True
        super().lost(reason)

    def fenced(self, writer: "Writer", newest_timeline: int) -> None:
        self._fences.inc()
        super().fenced(writer, newest_timeline)


def _timeline() -> float:
    return float("nan") if DB.writer is None or DB.writer.timeline is None else DB.writer.timeline


def _used() -> float:
    return 0 if DB.pool is None else DB.pool.get_size() - DB.pool.get_idle_size()


def _idle() -> float:
    return 0 if DB.pool is None else DB.pool.get_idle_size()


def _most() -> float:
    return 0 if DB.pool is None else DB.pool.get_max_size()
