"""The judgement: what was promised, beside what is there."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from api_server.testing.failover.ledger import Ledger, Request


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is there in the end; `answer` is what an acknowledgement of it says, None where none says anything."""

    key: str
    answer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of every write. Keys are sorted, times are milliseconds.

    - `lost`: acknowledged, and what was acknowledged is not there.
    - `doubled`: there more than once, or acknowledged as two different things.
    - `phantom`: there, though every answer said that it is not.
    - `unasked`: there, though nobody asked for it.
    - `rate_per_s`: how often writes were asked.
    - `windows_ms`: for each disturbance, the longest time without an acknowledgement from the last one before it to
      the next disturbance.
    - `first_ack_ms`: for each promotion, from the moment the new primary took writes to the next acknowledgement; None
      where there was none.
    - `slowest_ms`: what the slowest answer took, from the moment its request was due.
    - `errors`: how often each code was the answer.
    """

    requests: int
    acknowledged: int
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    phantom: tuple[str, ...]
    unasked: tuple[str, ...]
    rate_per_s: float
    windows_ms: tuple[float, ...]
    first_ack_ms: tuple[float | None, ...]
    longest_gap_ms: float
    slowest_ms: float
    errors: Mapping[str, int]

    @property
    def client_errors(self) -> int:
        """How many requests got something else than an acknowledgement."""
        return sum(self.errors.values())


def verdict(
    ledger: Ledger,
    rows: Iterable[Row],
    *,
    disturbed_at: Sequence[float] = (),
    accepting_at: Sequence[float] = (),
) -> Verdict:
    """Judge a ledger by the rows that are there; moments are those of `time.monotonic`."""
    requests = ledger.requests
    kept: dict[str, list[str | None]] = defaultdict(list)
    for row in rows:
        kept[row.key].append(row.answer)
    asked: dict[str, list[Request]] = defaultdict(list)
    for request in requests:
        asked[request.key].append(request)
    promised = {key: _promised(of_key) for key, of_key in asked.items()}
    acknowledged_at = sorted(_finished_at(request) for request in requests if request.outcome == "acknowledged")
    until = max((_finished_at(request) for request in requests), default=0.0)
    return Verdict(
        requests=len(requests),
        acknowledged=sum(bool(answers) for answers in promised.values()),
        lost=tuple(sorted(key for key, answers in promised.items() if not _are_kept(answers, kept.get(key, [])))),
        doubled=tuple(sorted(key for key in asked if len(kept.get(key, [])) > 1 or len(promised[key]) > 1)),
        phantom=tuple(sorted(key for key in asked if key in kept and _is_refused(asked[key]))),
        unasked=tuple(sorted(key for key in kept if key not in asked)),
        rate_per_s=_rate_per_s(requests),
        windows_ms=_windows_ms(acknowledged_at, sorted(disturbed_at), until),
        first_ack_ms=tuple(_first_after_ms(acknowledged_at, moment) for moment in accepting_at),
        longest_gap_ms=_longest_gap_ms(acknowledged_at),
        slowest_ms=_ms(max((_finished_at(request) - request.due_at for request in requests), default=0.0)),
        errors=dict(Counter(_error(request) for request in requests if request.outcome != "acknowledged")),
    )


def _promised(requests: Sequence[Request]) -> set[str | None]:
    """Return what was acknowledged under a key, each different answer once."""
    return {request.answer for request in requests if request.outcome == "acknowledged"}


def _are_kept(promised: set[str | None], kept: Sequence[str | None]) -> bool:
    """Tell whether each answer is there; an answer or a row that names nothing stands for any."""
    return all(kept if answer is None else answer in kept or None in kept for answer in promised)


def _is_refused(requests: Sequence[Request]) -> bool:
    return all(request.outcome == "refused" for request in requests)


def _finished_at(request: Request) -> float:
    return request.sent_at if request.finished_at is None else request.finished_at


def _rate_per_s(requests: Sequence[Request]) -> float:
    took_s = requests[-1].sent_at - requests[0].sent_at if requests else 0.0
    return round((len(requests) - 1) / took_s, 1) if took_s else 0.0


def _error(request: Request) -> str:
    return request.code or f"HTTP {request.status}"


def _windows_ms(acknowledged_at: Sequence[float], disturbed_at: Sequence[float], until: float) -> tuple[float, ...]:
    windows = []
    for begin, end in pairwise([*disturbed_at, until]):
        last_before = max((at for at in acknowledged_at if at <= begin), default=begin)
        during = [at for at in acknowledged_at if begin < at <= end]
        windows.append(_longest_gap_ms([last_before, *during, max(begin, end)]))
    return tuple(windows)


def _first_after_ms(acknowledged_at: Sequence[float], moment: float) -> float | None:
    after = next((at for at in acknowledged_at if at > moment), None)
    return None if after is None else _ms(after - moment)


def _longest_gap_ms(moments: Sequence[float]) -> float:
    return _ms(max((later - earlier for earlier, later in pairwise(moments)), default=0.0))


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
