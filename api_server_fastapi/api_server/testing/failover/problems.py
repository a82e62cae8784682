"""How a run differs from what its scenario expects, in sentences."""

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from api_server.testing.failover.server_errors import READ_ONLY

if TYPE_CHECKING:
    from api_server.testing.failover.running import Run

_ANSWERED_AFTER_MS = 500
_BYSTANDERS_WAIT_MS = 2000
_READ_ONLY_FOR_S = 1.0
_RESIDUE = 2
_RATE = 0.95
_SHOWN = 3


def problems_of(run: "Run", deadline_s: float) -> list[str]:
    """Return what should not be; nothing where the run is as its scenario expects."""
    return [
        *_problems_of_what_is_kept(run),
        *_problems_of_answers(run, deadline_s * 1000 + _ANSWERED_AFTER_MS),
        *_problems_of_times(run),
        *_problems_of_read_only_nodes(run),
        *_problems_of_bystanders(run),
        *(
            f"afterwards the service holds {text}"
            for text in held(run.residue_before, run.residue_after, run.given_back)
        ),
    ]


def held(before: Mapping[str, int], after: Mapping[str, int], given_back: Collection[str]) -> list[str]:
    """Return what there is any of though it must be given back, and what is more than before but for chance."""
    most = {name: 0 if name in given_back else number + _RESIDUE for name, number in before.items()}
    return [
        f"{after[name]} {name} instead of {0 if name in given_back else number}"
        for name, number in before.items()
        if after[name] > most[name]
    ]


def _problems_of_what_is_kept(run: "Run") -> Iterator[str]:
    judged = run.verdict
    if run.scenario.expected.loses:
        if not judged.lost:
            yield "nothing was lost, though this control must lose some: a loss would not be seen"
    elif judged.lost:
        yield f"{len(judged.lost)} acknowledged writes are lost: {_some(judged.lost)}"
    if judged.doubled and not run.scenario.expected.loses:
        yield f"{len(judged.doubled)} writes are doubled: {_some(judged.doubled)}"
    if judged.phantom:
        yield f"{len(judged.phantom)} refused writes are there: {_some(judged.phantom)}"
    if judged.unasked:
        yield f"{len(judged.unasked)} writes are there that nobody asked for: {_some(judged.unasked)}"


def _problems_of_answers(run: "Run", most_ms: float) -> Iterator[str]:
    judged = run.verdict
    allowed = run.scenario.expected.client_errors
    if errors := {code: number for code, number in judged.errors.items() if code not in allowed}:
        yield f"clients saw errors: {errors}"
    endless = [request for request in run.ledger.requests if request.code in allowed and request.retry_after_s is None]
    if endless:
        yield f"{len(endless)} errors did not say when to ask again: {endless[0].face}, {endless[0].code}"
    if judged.rate_per_s < run.rate_per_s * _RATE:
        yield f"writers asked {judged.rate_per_s} times a second instead of {run.rate_per_s:g}"
    if judged.slowest_ms > most_ms:
        yield f"an answer took {judged.slowest_ms:.0f} ms, and may take {most_ms:.0f}"
    if hanging := sum(request.finished_at is None for request in run.ledger.requests):
        yield f"{hanging} requests were never answered"


def _problems_of_times(run: "Run") -> Iterator[str]:
    expected = run.scenario.expected
    if (most := expected.first_ack_ms) is not None:
        for first in run.verdict.first_ack_ms:
            if first is None or first > most:
                yield f"the first write after a promotion was acknowledged after {first} ms, and should be by {most}"
    if (most := expected.longest_window_ms) is not None:
        for window in run.verdict.windows_ms:
            if window > most:
                yield f"nothing was acknowledged for {window} ms, and at most {most} are expected"


def _problems_of_read_only_nodes(run: "Run") -> Iterator[str]:
    """Nothing may be written to a node that takes no writes, but right after a promotion."""
    if run.scenario.expected.finds_read_only and not any(error.sqlstate == READ_ONLY for error in run.server_errors):
        yield "no write was sent to a node that takes none: it would not be seen if that went on"
    promoted_at = [promotion.accepts_writes_at for promotion in run.promotions]
    late = [
        error
        for error in run.server_errors
        if error.sqlstate == READ_ONLY
        and error.at - max((at for at in promoted_at if at <= error.at), default=error.at) > _READ_ONLY_FOR_S
    ]
    if late:
        yield f"{len(late)} writes were sent to {late[0].node} more than a second after the promotion of another node"


def _problems_of_bystanders(run: "Run") -> Iterator[str]:
    for name, seen in run.bystanders.items():
        if seen.failures:
            yield f"{name} failed {len(seen.failures)} times: {_some(seen.failures)}"
        if not seen.answered_at:
            yield f"{name} was never answered"
        elif seen.longest_gap_ms > _BYSTANDERS_WAIT_MS:
            yield f"{name} was not answered for {seen.longest_gap_ms:.0f} ms"


def _some(values: "tuple[str, ...] | list[str]") -> str:
    return ", ".join(values[:_SHOWN]) + (", …" if len(values) > _SHOWN else "")
