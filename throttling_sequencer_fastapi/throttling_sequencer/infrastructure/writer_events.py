"""What operators hear of the server that takes writes: log lines."""

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    # What makes the pool hands these to it, and the two must not need each other.
    from throttling_sequencer.infrastructure.db.primary import Writer

log = structlog.get_logger("throttling_sequencer.database")


class LoggedWriterEvents:
    """Writes one line for each thing that `WriterEvents` tells."""

    def changed(self, before: "Writer | None", after: "Writer", outage_s: float) -> None:
        log.info(
            "the writer changed",
            host=after.host,
            port=after.port,
            timeline=after.timeline,
            before=None if before is None else f"{before.host}:{before.port}",
            before_timeline=None if before is None else before.timeline,
            outage_ms=round(outage_s * 1000),
        )

    def returned(self, writer: "Writer", outage_s: float) -> None:
        log.info(
            "the writer is back",
            host=writer.host,
            port=writer.port,
            timeline=writer.timeline,
            outage_ms=round(outage_s * 1000),
        )

    def lost(self, reason: str) -> None:
        log.warning("no writer is found", reason=reason)

    def fenced(self, writer: "Writer", newest_timeline: int) -> None:
        log.error(
            "a server that was the writer takes writes and gets none",
            host=writer.host,
            port=writer.port,
            timeline=writer.timeline,
            newest_timeline=newest_timeline,
            advice="fence it; where it was restored from a backup, or upgraded, restart this service",
        )
