"""Scenarios at work: the subject that is put to the test, and what came of it."""

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from api_server.local.lab import Lab, Promotion
from api_server.local.postgres import PostgresAddress
from api_server.testing.failover.bystanders import Observation
from api_server.testing.failover.ledger import Ledger
from api_server.testing.failover.problems import held, problems_of
from api_server.testing.failover.scenario import Event, Scenario, Stage
from api_server.testing.failover.server_errors import ServerError, server_errors
from api_server.testing.failover.traffic import NotAcknowledgedError, OpenClients, Traffic
from api_server.testing.failover.verdict import Row, Verdict, verdict

_SETTLED_WITHIN_S = 10.0
_AT_REST_FOR_S = 0.3


class Subject(Protocol):
    """The service that is put to the test; it runs, with its database in the cluster."""

    @property
    def deadline_s(self) -> float:
        """How long it may try before it says that it could not."""
        ...

    @property
    def clients(self) -> OpenClients:
        """Who asks it."""
        ...

    def rows(self, address: PostgresAddress) -> Iterable[Row]:
        """Return all that it keeps at this server."""
        ...

    def residue(self, address: PostgresAddress) -> Mapping[str, int]:
        """Return what it holds of things that it should give back, such as slots, locks, tasks and descriptors."""
        ...

    @property
    def given_back(self) -> frozenset[str]:
        """Which of these there must be none of when nothing is asked."""
        ...

    def complaints(self, run: "Run", address: PostgresAddress) -> Iterable[str]:
        """Return, as sentences, what else it should not have done in this run; the server is the one that is left."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of a scenario, once."""

    scenario: Scenario
    seed: int
    began_at: float
    ledger: Ledger
    verdict: Verdict
    events: Sequence[Event]
    promotions: Sequence[Promotion]
    bystanders: Mapping[str, Observation]
    residue_before: Mapping[str, int]
    residue_after: Mapping[str, int]
    server_errors: Sequence[ServerError] = ()
    problems: Sequence[str] = ()
    given_back: frozenset[str] = frozenset()
    rate_per_s: float = 0.0


def play(scenario: Scenario, lab: Lab, subject: Subject, *, seed: int, rate_per_s: float = 50.0) -> Run:
    """Have a scenario happen to a running cluster while writers write to the subject, and judge what came of it."""
    before = _residue_at_rest(subject, lab.address(_writer(lab)))
    drain_s = subject.deadline_s + 5.0
    began_at = time.monotonic()
    with Traffic(subject.clients, rate_per_s=rate_per_s, seed=seed, drain_s=drain_s) as traffic:
        stage = Stage(scenario, lab, traffic, lambda node: subject.rows(lab.address(node)), random.Random(seed))
        try:
            stage.recover()
            scenario.steps(stage)
            stage.recover()
        except NotAcknowledgedError as error:
            stage.complain(str(error))
        traffic.stop()
    address = lab.address(_writer(lab))
    judged = verdict(
        traffic.ledger,
        subject.rows(address),
        disturbed_at=[event.at for event in stage.events if event.is_disturbance],
        accepting_at=[promotion.accepts_writes_at for promotion in stage.promotions],
    )
    run = Run(
        scenario=scenario,
        seed=seed,
        began_at=began_at,
        ledger=traffic.ledger,
        verdict=judged,
        events=sorted(stage.events, key=lambda event: event.at),
        promotions=stage.promotions,
        bystanders=traffic.bystanders,
        residue_before=before,
        residue_after=_settled_residue(subject, address, before),
        server_errors=server_errors(lab, since=began_at),
        given_back=subject.given_back,
        rate_per_s=rate_per_s,
    )
    problems = [*stage.complaints, *problems_of(run, subject.deadline_s), *subject.complaints(run, address)]
    return replace(run, problems=problems)


def _writer(lab: Lab) -> str:
    writer = lab.writer()
    assert writer is not None, "no node takes writes"
    return writer


def _residue_at_rest(subject: Subject, address: PostgresAddress) -> Mapping[str, int]:
    """Return what the subject holds when nothing is under way any more: what is compared with it would else hide."""
    deadline = time.monotonic() + _SETTLED_WITHIN_S
    last = subject.residue(address)
    while True:
        time.sleep(_AT_REST_FOR_S)
        now = subject.residue(address)
        if (now == last and not any(now[name] for name in subject.given_back)) or time.monotonic() > deadline:
            return now
        last = now


def _settled_residue(subject: Subject, address: PostgresAddress, before: Mapping[str, int]) -> Mapping[str, int]:
    """Return what the subject still holds when it holds no more than before, or has had the time to get there."""
    deadline = time.monotonic() + _SETTLED_WITHIN_S
    while True:
        now = subject.residue(address)
        if not held(before, now, subject.given_back) or time.monotonic() > deadline:
            return now
        time.sleep(0.1)
