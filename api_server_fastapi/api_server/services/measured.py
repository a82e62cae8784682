"""The numbers of the foundation: what is counted as it happens, and what is read when somebody asks."""

import platform
from collections.abc import Callable
from enum import StrEnum

from prometheus_client import Counter, Histogram
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from api_server.application import Application
from api_server.event_bus import EventBus
from api_server.metrics import Metrics
from api_server.readiness_pipeline import ReadinessState
from api_server.services.event_relay import EventRelay
from api_server.services.health_check_service import HealthCheckService

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER = "OTHER"
# Of the protocols of GraphQL, of WebSocket, and the statuses of a handshake that is refused.
_CLOSING_CODES = frozenset(
    {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013}
    | {4400, 4401, 4403, 4406, 4408, 4409, 4429}
    | {400, 401, 403, 404, 429, 500, 503}
)
# Errors have the codes of their classes. Who makes one of each value that clients send must not fill the memory.
_MOST_CODES = 64


class RequestNumbers:
    """Counts HTTP requests. `in_progress` and `streams` are how many there are now."""

    def __init__(self, metrics: Metrics) -> None:
        self._requests = metrics.counter(
            "http_requests", "HTTP requests that were answered.", "method", "route", "status"
        )
        self._durations = metrics.histogram(
            "http_request_duration_seconds", "Time to the end of an answer, of streams none.", "method", "route"
        )
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._closed = metrics.counter(
            "graphql_sockets_closed", "Sockets that this side closed, or refused by a status.", "code"
        )
        self.in_progress = 0
        self.streams = 0
        metrics.gauge("http_requests_in_progress", "HTTP requests that are not answered yet.", lambda: self.in_progress)
        metrics.gauge("http_event_streams", "Streams of server-sent events that are open.", lambda: self.streams)

    def answered(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count an answer; `route` is a template, and what a stream takes is None."""
        key = (method if method in _METHODS else _OTHER, route, status)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = (
                self._requests.labels(key[0], route, str(status)),
                self._durations.labels(key[0], route),
            )
        requests, durations = known
        requests.inc()
        if seconds is not None:
            durations.observe(seconds)

    def socket_closed(self, code: int) -> None:
        """Count a socket that this side closes by a code, or refuses by a status."""
        self._closed.labels(str(code) if code in _CLOSING_CODES else _OTHER).inc()


class OperationOutcome(StrEnum):
    """How a GraphQL operation ended; `refused` was not executed."""

    SUCCESS = "success"
    FAILED = "failed"
    REFUSED = "refused"
    CANCELLED = "cancelled"


class OperationNumbers:
    """Counts GraphQL operations; `running` is how many there are now."""

    def __init__(self, metrics: Metrics) -> None:
        self._operations = metrics.counter(
            "graphql_operations", "GraphQL operations that ended, over HTTP and sockets.", "type", "outcome"
        )
        self._durations = metrics.histogram(
            "graphql_operation_duration_seconds", "Time that an operation took; a subscription has none.", "type"
        )
        self._errors = metrics.counter("graphql_errors", "Errors that operations answered, by their codes.", "code")
        self._known: dict[tuple[str, str], tuple[Counter, Histogram | None]] = {}
        self._refusals = metrics.counter(
            "graphql_documents_refused", "Documents that ask too much, by the limit that they break.", "limit"
        )
        self._codes: dict[str, Counter] = {}
        self.running = 0
        metrics.gauge("graphql_operations_in_progress", "Operations that run now.", lambda: self.running)

    def ended(self, kind: str, outcome: OperationOutcome, seconds: float) -> None:
        """Count an operation: a query, a mutation, a subscription, or one of which that is not known."""
        known = self._known.get((kind, outcome))
        if known is None:
            durations = None if kind == "subscription" else self._durations.labels(kind)
            known = self._known[kind, outcome] = self._operations.labels(kind, str(outcome)), durations
        operations, durations = known
        operations.inc()
        if durations is not None:
            durations.observe(seconds)

    def failed(self, code: object) -> None:
        """Count an error that a client is told."""
        name = code if isinstance(code, str) else "NONE"
        if name not in self._codes:
            name = name if len(self._codes) < _MOST_CODES else _OTHER
            self._codes.setdefault(name, self._errors.labels(name))
        self._codes[name].inc()

    def asked_too_much(self, limit: str) -> None:
        """Count a limit, by its name, that a document breaks."""
        self._refusals.labels(limit).inc()


def measure_foundation(
    metrics: Metrics,
    application: Application,
    *,
    health: HealthCheckService,
    bus: EventBus,
    relay: EventRelay,
    engine: AsyncEngine | None,
) -> None:
    """Have read what the foundation's services know of themselves."""
    metrics.gauge(
        "service_build_info",
        "What runs here; always 1.",
        lambda: 1,
        workers="max",
        application=application.name,
        version=application.version,
        python=platform.python_version(),
    )
    metrics.counter("service_starts", "Workers that have begun to serve, those that are gone included.").inc()
    _measure_readiness(metrics, health)
    measure_events(metrics, bus, relay)
    if engine is not None:
        _measure_pool(metrics, engine)


def measure_events(metrics: Metrics, bus: EventBus, relay: EventRelay) -> None:
    """Have read what is known of events, of this process and of others."""
    metrics.follow_each("events_emitted", "Events by their classes.", "event", lambda: bus.emitted)
    metrics.follow_each("event_handler_failures", "Failures of event handlers.", "handler", lambda: bus.failures)
    metrics.follow_each("events_dropped", "Events that streams dropped.", "event", lambda: bus.dropped)
    metrics.follow(
        "event_relay_interruptions",
        "Times that other processes' events were heard no more.",
        lambda: relay.interruptions,
    )
    metrics.gauge("event_relay_listening", "Workers that hear other processes' events.", lambda: relay.is_listening)
    metrics.gauge("event_relay_running", "Workers that should hear them.", lambda: relay.is_relaying)


def _measure_readiness(metrics: Metrics, health: HealthCheckService) -> None:
    for state in ReadinessState:
        metrics.gauge(
            "service_readiness", "Workers in each state of readiness.", _is_in(health, state), state=str(state)
        )
    metrics.gauge("service_ready", "Workers to which requests should be sent.", lambda: health.is_ready)
    metrics.gauge("service_draining", "Workers that are about to leave.", lambda: health.is_draining)


def _measure_pool(metrics: Metrics, engine: AsyncEngine) -> None:
    """Read the pool that the engine has then: it makes a new one whenever its connections are renewed."""

    def gauge(state: str, read: Callable[[QueuePool], float]) -> None:
        def number() -> float:
            pool = engine.sync_engine.pool
            return read(pool) if isinstance(pool, QueuePool) else 0

        metrics.gauge("sqlalchemy_pool_connections", "Connections of the foundation's pool.", number, state=state)

    gauge("used", lambda pool: pool.checkedout())
    gauge("idle", lambda pool: pool.checkedin())
    gauge("most", lambda pool: pool.size() + max(0, pool._max_overflow))  # noqa: SLF001 - it has no other way to say it


def _is_in(health: HealthCheckService, state: ReadinessState) -> Callable[[], float]:
    return lambda: health.state is state
