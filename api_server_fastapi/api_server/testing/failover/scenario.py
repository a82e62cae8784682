"""Scenarios: what happens to a cluster while writers write, and what should come of it."""

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from api_server.local.lab import Lab, Promotion, Route
from api_server.testing.failover.traffic import Traffic
from api_server.testing.failover.verdict import Row

_STEADY = 25
_RECOVERED_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done, by `time.monotonic`; a disturbance may keep writers waiting."""

    at: float
    text: str
    is_disturbance: bool


class Stage:
    """What the steps of a scenario work with: the cluster, the traffic, and chance that a seed repeats."""

    def __init__(
        self, scenario: "Scenario", lab: Lab, traffic: Traffic, rows: Callable[[str], Iterable[Row]], rng: random.Random
    ) -> None:
        self.scenario, self.lab, self.traffic, self.rng = scenario, lab, traffic, rng
        self._rows = rows
        self.events: list[Event] = []
        self.promotions: list[Promotion] = []
        self.complaints: list[str] = []

    @property
    def writer(self) -> str:
        """The node that takes writes."""
        writer = self.lab.writer()
        assert writer is not None, "no node takes writes"
        return writer

    def rows(self, node: str) -> list[Row]:
        """Return what the subject keeps at a node."""
        return list(self._rows(node))

    def other(self, than: str) -> str:
        """Return the first node that is not this one."""
        return next(name for name in self.lab.node_names if name != than)

    def note(self, text: str) -> None:
        """Write down that something is done now."""
        self.events.append(Event(time.monotonic(), text, is_disturbance=False))

    def disturb(self, text: str) -> None:
        """Write down that something is done now that may keep writers waiting."""
        self.events.append(Event(time.monotonic(), text, is_disturbance=True))

    def wait(self, least_s: float, most_s: float | None = None) -> None:
        """Let the traffic go on for so long, or for a time of chance between the two."""
        time.sleep(least_s if most_s is None else self.rng.uniform(least_s, most_s))

    def promote(self, node: str | None = None, *, fence: bool = True) -> Promotion:
        """Promote a standby, by chance where there are several, and keep the moment from which it took writes."""
        node = node or self.rng.choice(self.lab.candidates())
        self.disturb(f"promote {node}")
        promotion = self.lab.promote(node, fence=fence)
        self.promoted(promotion)
        return promotion

    def promoted(self, promotion: Promotion) -> None:
        """Keep the moment from which a new primary took writes."""
        self.promotions.append(promotion)
        self.events.append(Event(promotion.accepts_writes_at, f"{promotion.node} takes writes", is_disturbance=False))

    def recover(self, acknowledgements: int = _STEADY, within_s: float = _RECOVERED_WITHIN_S) -> None:
        """Wait until writes are acknowledged again; raises NotAcknowledgedError where they are not."""
        self.traffic.wait_for_acknowledgements(acknowledgements, within_s)

    def complain(self, text: str) -> None:
        """Write down something that must not be."""
        self.complaints.append(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What should come of a scenario.

    `loses` is for controls, which show that a loss would be seen. `client_errors` are the codes that clients may see,
    each with a time to ask again. `first_ack_ms` holds for each promotion, and `longest_window_ms` for each window.
    `finds_read_only` is for what has no teeth unless a write is sent to a node that takes none.
    """

    loses: bool = False
    client_errors: frozenset[str] = frozenset()
    finds_read_only: bool = False
    first_ack_ms: float | None = None
    longest_window_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Something that happens to a cluster, how the cluster and the way to it are made, and what should come of it.

    `failovers` is how often another node becomes the one that takes writes.
    """

    name: str
    failure_mode: str
    says: str
    steps: Callable[[Stage], None]
    failovers: int
    synchronous: bool = True
    nodes: int = 2
    route: Route = "direct"
    control: bool = False
    expected: Expectation = field(default_factory=Expectation)
