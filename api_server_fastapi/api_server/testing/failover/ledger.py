"""What writers asked and what came back: the only witness of what a service has promised."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

Outcome = Literal["acknowledged", "refused", "unknown"]

NEVER_ANSWERED = "NEVER_ANSWERED"


class NoAnswerError(Exception):
    """A request got no answer, or one that says neither yes nor no; `code` names why in one word."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: a promise that the write is kept, one that it is not, or neither.

    `answer` tells one kept thing from another, such as the id that the service gave it. `retry_after_s` is when an
    answer that is no promise says to ask again.
    """

    outcome: Outcome
    status: int | None = None
    code: str | None = None
    answer: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One write that was asked; times are those of `time.monotonic`, `attempt` counts the requests of its key.

    It was to be sent at `due_at`, from which its client waits, however late a busy machine sent it.
    """

    key: str
    face: str
    attempt: int
    due_at: float
    sent_at: float
    finished_at: float | None = None
    outcome: Outcome = "unknown"
    status: int | None = None
    code: str | None = NEVER_ANSWERED
    answer: str | None = None
    retry_after_s: float | None = None


class Ledger:
    """Every write that was asked, in the order of asking; one thread writes, any may read."""

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self._attempts: dict[str, int] = {}
        self.acknowledgements = 0

    @property
    def requests(self) -> Sequence[Request]:
        """What was asked so far; what was not answered yet has the outcome `unknown`."""
        return tuple(self._requests)

    def sent(self, key: str, face: str, due_at: float | None = None) -> int:
        """Write down that a request is sent now, and return its number."""
        self._attempts[key] = attempt = self._attempts.get(key, 0) + 1
        now = time.monotonic()
        due_at = now if due_at is None else due_at
        self._requests.append(Request(key=key, face=face, attempt=attempt, due_at=due_at, sent_at=now))
        return len(self._requests) - 1

    def finished(self, number: int, reply: Reply) -> None:
        """Write down that a request got its answer now."""
        self._requests[number] = replace(
            self._requests[number],
            finished_at=time.monotonic(),
            outcome=reply.outcome,
            status=reply.status,
            code=reply.code,
            answer=reply.answer,
            retry_after_s=reply.retry_after_s,
        )
        self.acknowledgements += reply.outcome == "acknowledged"

    def lines(self) -> str:
        """Return the ledger as lines of JSON, a request each."""
        return "".join(json.dumps(asdict(request)) + "\n" for request in self._requests)

    @property
    def sha256(self) -> str:
        """The hash of `lines`, by which a result names the ledger it was judged by."""
        return hashlib.sha256(self.lines().encode()).hexdigest()

    def write(self, file: Path) -> None:
        """Write `lines` to a file."""
        file.write_text(self.lines())

    @classmethod
    def read(cls, file: Path) -> "Ledger":
        """Return the ledger that `write` wrote."""
        ledger = cls()
        for line in file.read_text().splitlines():
            request = Request(**json.loads(line))
            ledger._requests.append(request)
            ledger._attempts[request.key] = request.attempt
            ledger.acknowledgements += request.outcome == "acknowledged"
        return ledger
