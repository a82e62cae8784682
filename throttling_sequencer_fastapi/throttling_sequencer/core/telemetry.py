"""The sequencer's spans: what each is called, and what it says.

- `plan`, and in it `plan.wait` and `plan.search`;
- `database.transaction`, and in it `database.acquire` and `database.commit`; `database.use`;
- `request_log.write`, which is a trace of its own.
"""

from api_server.telemetry import Span, Tracer

_DATABASE = {"db.system.name": "postgresql"}

tracer = Tracer("throttling_sequencer")


def planning(units: int, strategy: str | None, budget_ms: int) -> Span:
    """Begin the span of a task of the lane; `waiting` and `searching` are its parts."""
    return tracer.span("plan", units=units, strategy=strategy or "default", budget_ms=budget_ms)


def waiting(plan: Span) -> Span:
    """Begin what of it is spent waiting for a process."""
    return plan.child("plan.wait")


def searching(plan: Span) -> Span:
    """Begin what of it is spent in the planning processes, seen from outside."""
    return plan.child("plan.search")


def transaction() -> Span:
    """Make a span of a unit of work."""
    return tracer.span("database.transaction", **_DATABASE)


def acquiring() -> Span:
    """Make a span of waiting for a connection of the pool, and of connecting where it has to be made."""
    return tracer.span("database.acquire", **_DATABASE)


def committing() -> Span:
    """Make a span of a COMMIT, which may wait for a standby."""
    return tracer.span("database.commit", **_DATABASE)


def using_database() -> Span:
    """Make a span of what Piccolo asks the database."""
    return tracer.span("database.use", **_DATABASE)


def writing_request_log(requests: int) -> Span:
    """Begin a trace of a batch of the request log, which is written for many requests and within none."""
    return tracer.trace("request_log.write", requests=requests)
