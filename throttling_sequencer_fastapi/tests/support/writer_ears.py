"""Ears for what is told of the server that takes writes."""

from collections.abc import Callable
from dataclasses import dataclass, field

from throttling_sequencer.infrastructure.db.primary import Writer


@dataclass
class HeardOfWriters:
    """What was told, in order; `then` is called where a change is."""

    changes: list[tuple[Writer | None, Writer]] = field(default_factory=list)
    outages_s: list[float] = field(default_factory=list)
    returns: list[Writer] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    fences: list[tuple[Writer, int]] = field(default_factory=list)
    then: Callable[[], object] | None = None

    def changed(self, before: Writer | None, after: Writer, outage_s: float) -> None:
        self.changes.append((before, after))
        self.outages_s.append(outage_s)
        if self.then is not None:
            self.then()

    def returned(self, writer: Writer, outage_s: float) -> None:
        self.returns.append(writer)
        self.outages_s.append(outage_s)

    def lost(self, reason: str) -> None:
        self.losses.append(reason)

    def fenced(self, writer: Writer, newest_timeline: int) -> None:
        self.fences.append((writer, newest_timeline))
