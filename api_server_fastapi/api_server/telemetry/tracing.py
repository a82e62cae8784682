"""Spans that are recorded, by OpenTelemetry; loaded only where telemetry is on."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self
from uuid import uuid4

from opentelemetry import context as contexts
from opentelemetry import propagate
from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.version import __version__ as sdk_version
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes, AttributeValue
from starlette.requests import ClientDisconnect

from api_server.telemetry.sampling import BoundedSampler
from api_server.telemetry.spans import NO_SPAN, Attribute, Span

# What waits to be sent is a number of spans: each is to be of a bounded size, whatever a client sent.
_LIMITS = SpanLimits(max_span_attributes=32, max_span_attribute_length=256, max_events=8, max_links=4)

# What FastAPI may tell of a request: no query string, no header.
_TOLD = frozenset(
    {"http.request.method", "network.protocol.name", "network.protocol.version", "url.path", "url.scheme"}
)

_ERROR_TYPE = "error.type"
_CLIENT_DISCONNECT = "starlette.requests.ClientDisconnect"
_CLIENT_LEFT = frozenset({"ConnectionError", _CLIENT_DISCONNECT})
_FAILED = 500


def make_provider(name: str, version: str, ratio: float) -> TracerProvider:
    """Make what the spans of this process come from, in the name of a service; `OTEL_SERVICE_NAME` wins over it."""
    # Not what a client says besides its trace (`baggage`): nobody here reads it.
    propagate.set_global_textmap(TraceContextTextMapPropagator())
    own = Resource(
        {
            "service.name": name,
            "service.version": version,
            # Each worker is a process of its own.
            "service.instance.id": str(uuid4()),
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.version": sdk_version,
        }
    )
    return TracerProvider(
        sampler=BoundedSampler(ratio),
        resource=own.merge(OTELResourceDetector().detect()),
        span_limits=_LIMITS,
        # Whoever serves shuts it down, within its time.
        shutdown_on_exit=False,
    )


class OtelRecorder:
    """Makes spans by a provider."""

    def __init__(self, provider: otel.TracerProvider) -> None:
        self._provider = provider
        self._tracers: dict[str, otel.Tracer] = {}

    def span(self, scope: str, name: str, attributes: Mapping[str, Attribute], *, or_trace: bool) -> Span:
        current = otel.get_current_span()
        is_in_trace = current.get_span_context().is_valid
        if not (current.is_recording() if is_in_trace else or_trace):
            return NO_SPAN
        tracer = self._tracer(scope)
        return _RecordedSpan(tracer, tracer.start_span(name, attributes=attributes))

    def trace(self, scope: str, name: str, attributes: Mapping[str, Attribute]) -> Span:
        origin = otel.get_current_span().get_span_context()
        tracer = self._tracer(scope)
        links = [Link(origin)] if origin.is_valid else []
        return _RecordedSpan(tracer, tracer.start_span(name, context=Context(), links=links, attributes=attributes))

    def ids(self) -> Mapping[str, str]:
        context = otel.get_current_span().get_span_context()
        if not context.is_valid:
            return {}
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}

    def _tracer(self, scope: str) -> otel.Tracer:
        tracer = self._tracers.get(scope)
        if tracer is None:
            tracer = self._tracers[scope] = self._provider.get_tracer(scope)
        return tracer


class _RecordedSpan(Span):
    """One of OpenTelemetry's."""

    __slots__ = ("_before", "_span", "_tracer")

    def __init__(self, tracer: otel.Tracer, span: otel.Span) -> None:
        self._tracer = tracer
        self._span = span

    @property
    def is_recorded(self) -> bool:
        return self._span.is_recording()

    def set(self, **attributes: Attribute) -> None:
        self._span.set_attributes(attributes)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def child(self, name: str, **attributes: Attribute) -> Span:
        if not self._span.is_recording():
            return NO_SPAN
        within = otel.set_span_in_context(self._span, Context())
        return _RecordedSpan(self._tracer, self._tracer.start_span(name, context=within, attributes=attributes))

    def end(self) -> None:
        if self._span.is_recording():
            self._span.end()

    def __enter__(self) -> Self:
        self._before = contexts.get_current()
        contexts.attach(otel.set_span_in_context(self._span, self._before))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, ClientDisconnect):
            # Its class, and not its text, which may hold what somebody sent.
            self._span.set_attribute("error.type", f"{type(error).__module__}.{type(error).__qualname__}")
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()
        # Set back, not reset: the source of a subscription may be closed in another context than it was begun in.
        contexts.attach(self._before)


class _CarefulSpan(otel.Span):
    """One of FastAPI's, of which it is no error that a client leaves."""

    def __init__(self, span: otel.Span) -> None:
        self._span = span
        self._client_left = False

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        # FastAPI's name for a client that left; an error of this name that nobody handled is a 500.
        has_failed = attributes.get("http.response.status_code", 0) == _FAILED
        if attributes.get(_ERROR_TYPE) in _CLIENT_LEFT and not has_failed:
            self._client_left = True
            attributes = {key: value for key, value in attributes.items() if key != _ERROR_TYPE}
        self._span.set_attributes(attributes)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        if key == _ERROR_TYPE and value == _CLIENT_DISCONNECT:
            self._client_left = True
        else:
            self._span.set_attribute(key, value)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        if not self._client_left:
            self._span.set_status(status, description)

    def end(self, end_time: int | None = None) -> None:
        self._span.end(end_time)

    def get_span_context(self) -> otel.SpanContext:
        return self._span.get_span_context()

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        self._span.add_event(name, attributes, timestamp)

    def add_link(self, context: otel.SpanContext, attributes: Attributes = None) -> None:
        self._span.add_link(context, attributes)

    def update_name(self, name: str) -> None:
        self._span.update_name(name)

    def is_recording(self) -> bool:
        return self._span.is_recording()

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002 - OpenTelemetry's signature
    ) -> None:
        self._span.record_exception(exception, attributes, timestamp, escaped)


class CarefulProvider(otel.TracerProvider):
    """What FastAPI gets: its spans begin without what may hold a secret."""

    def __init__(self, provider: otel.TracerProvider) -> None:
        self._provider = provider

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> otel.Tracer:
        return _CarefulTracer(
            self._provider.get_tracer(instrumenting_module_name, instrumenting_library_version, schema_url, attributes)
        )


class _CarefulTracer(otel.Tracer):
    def __init__(self, tracer: otel.Tracer) -> None:
        self._tracer = tracer

    def start_span(  # noqa: PLR0917 - OpenTelemetry's signature
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002 - as above
        set_status_on_exception: bool = True,  # noqa: FBT001, FBT002 - as above
    ) -> otel.Span:
        told = {key: value for key, value in (attributes or {}).items() if key in _TOLD}
        return _CarefulSpan(
            self._tracer.start_span(
                name, context, kind, told, links, start_time, record_exception, set_status_on_exception
            )
        )

    def start_as_current_span(  # type: ignore[override]  # noqa: PLR0917 - its own kind of context is not public
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002 - OpenTelemetry's signature
        set_status_on_exception: bool = True,  # noqa: FBT001, FBT002 - as above
        end_on_exit: bool = True,  # noqa: FBT001, FBT002 - as above
    ) -> AbstractContextManager[otel.Span]:
        span = self.start_span(name, context, kind, attributes, links, start_time)
        return otel.use_span(span, end_on_exit, record_exception, set_status_on_exception)
