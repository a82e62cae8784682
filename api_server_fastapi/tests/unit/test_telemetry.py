"""Spans within a process: what is recorded, what is never told, and that nobody waits for a collector."""

import asyncio
import contextvars
import io
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count

import loguru
import pytest
import structlog
from api_server.event_bus import BaseEvent
from api_server.exceptions import StartError
from api_server.logging import configure_logging
from api_server.middlewares.route_path import route_path
from api_server.services.logged_event_bus import LoggedEventBus
from api_server.settings import Settings
from api_server.telemetry import Tracer, is_tracing, set_up_telemetry, setup, trace_ids
from api_server.telemetry.delivery import ToldExporter, otlp_exporter
from api_server.telemetry.sampling import BoundedSampler
from api_server.telemetry.setup import Telemetry
from api_server.telemetry.spans import NO_SPAN, use_recorder
from api_server.telemetry.tracing import CarefulProvider, OtelRecorder, make_provider
from fastapi import FastAPI, WebSocket
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ASKED, NOT_ASKED = f"00-{TRACE_ID}-{SPAN_ID}-01", f"00-{TRACE_ID}-{SPAN_ID}-00"
tracer = Tracer("tests")


class Happened(BaseEvent):
    """An event."""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    propagator, level = propagate.get_global_textmap(), logging.getLogger("opentelemetry").level
    yield
    use_recorder(None)
    propagate.set_global_textmap(propagator)
    logging.getLogger("opentelemetry").setLevel(level)


@pytest.fixture
def provider() -> TracerProvider:
    return make_provider("orders", "1.0", 1.0)


@pytest.fixture
def recorded(provider: TracerProvider) -> InMemorySpanExporter:
    """Have spans recorded, and give what keeps those that ended."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    use_recorder(OtelRecorder(provider))
    return exporter


def names(exporter: InMemorySpanExporter) -> list[str]:
    return [span.name for span in exporter.get_finished_spans()]


def parent_context(traceparent: str) -> Context:
    return TraceContextTextMapPropagator().extract({"traceparent": traceparent}, Context())


def decisions(sampler: BoundedSampler, number: int, context: Context | None = None) -> int:
    """Return how many of so many traces are recorded."""
    results = [sampler.should_sample(context or Context(), 1, "any") for _ in range(number)]
    return sum(result.decision is Decision.RECORD_AND_SAMPLE for result in results)


# What is recorded


@pytest.mark.parametrize(("ratio", "recorded"), [(0.0, 0), (0.25, 25), (1.0, 100)])
def test_this_part_of_the_traces_that_begin_here_is_recorded(ratio: float, recorded: int) -> None:
    rolls = count()
    assert decisions(BoundedSampler(ratio, dice=lambda: next(rolls) % 100 / 100), 100) == recorded


def test_a_client_may_ask_for_its_trace_so_often_a_second_and_no_more() -> None:
    now = [0.0]
    sampler = BoundedSampler(0.0, asked_per_s=20, clock=lambda: now[0])
    assert decisions(sampler, 1000, parent_context(ASKED)) == 20
    now[0] = 0.5
    assert decisions(sampler, 1000, parent_context(ASKED)) == 10
    now[0] = 1000.0
    assert decisions(sampler, 1000, parent_context(ASKED)) == 20


def test_beyond_that_its_traces_are_recorded_as_any_by_dice_that_it_does_not_hold() -> None:
    rolls = count()
    sampler = BoundedSampler(0.1, asked_per_s=0.0, dice=lambda: next(rolls) % 100 / 100)
    # Of an id that a ratio by ids would always record.
    assert decisions(sampler, 100, parent_context(f"00-{'0' * 31}1-{SPAN_ID}-01")) == 10


def test_a_client_that_does_not_record_its_trace_is_believed() -> None:
    assert decisions(BoundedSampler(1.0), 10, parent_context(NOT_ASKED)) == 0


@given(st.text(st.characters(codec="latin-1"), max_size=200) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{0,40}-\w{0,20}-.*"))
def test_a_malformed_traceparent_is_no_trace(header: str) -> None:
    context = trace.get_current_span(parent_context(header)).get_span_context()
    assert not context.is_valid or f"{context.trace_id:032x}" in header


def test_of_a_client_only_the_span_is_taken(provider: TracerProvider) -> None:
    headers = {"traceparent": ASKED, "tracestate": "vendor=told", "baggage": "user=ada"}
    context = propagate.extract(headers, Context())
    assert len(context) == 1
    span = provider.get_tracer("tests").start_span("a", context)
    assert isinstance(span, ReadableSpan)
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE_ID, SPAN_ID)
    assert not span.context.trace_state


# Spans


def test_without_telemetry_there_is_nothing_to_record() -> None:
    assert not is_tracing()
    span = tracer.span("a")
    assert (span, tracer.trace("b"), tracer.span_or_trace("c"), span.child("d")) == (NO_SPAN,) * 4
    assert trace_ids() == {}


def test_a_span_is_part_of_the_one_around_it(recorded: InMemorySpanExporter) -> None:
    with tracer.trace("outer"), tracer.span("inner", units=3):
        pass
    inner, outer = recorded.get_finished_spans()
    assert inner.parent is not None
    assert (inner.parent.span_id, inner.attributes) == (outer.context.span_id, {"units": 3})
    assert inner.context.trace_id == outer.context.trace_id


def test_outside_of_a_trace_only_what_may_begin_one_is_recorded(recorded: InMemorySpanExporter) -> None:
    with tracer.span("a part"):
        pass
    with tracer.span_or_trace("a beginning"):
        pass
    assert names(recorded) == ["a beginning"]


def test_a_trace_of_its_own_is_linked_to_where_it_began(recorded: InMemorySpanExporter) -> None:
    with tracer.trace("socket"), tracer.trace("operation"):
        pass
    operation, socket = recorded.get_finished_spans()
    assert operation.parent is None
    assert operation.context.trace_id != socket.context.trace_id
    assert [link.context for link in operation.links] == [socket.context]


def test_nothing_is_recorded_of_a_trace_that_is_not() -> None:
    use_recorder(OtelRecorder(make_provider("orders", "1.0", 0.0)))
    with tracer.trace("operation") as operation:
        assert not operation.is_recorded
        assert tracer.span("part") is NO_SPAN
        assert operation.child("part") is NO_SPAN
        assert trace_ids().keys() == {"trace_id", "span_id"}


async def test_a_child_is_a_part_wherever_it_begins_and_ends_once(
    recorded: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    with tracer.trace("plan") as plan:
        child = await asyncio.to_thread(contextvars.Context().run, plan.child, "plan.wait")
        child.end()
        child.end()
    child_span, plan_span = recorded.get_finished_spans()
    assert child_span.parent == plan_span.context
    assert caplog.records == []


def test_an_error_is_told_by_its_class_and_not_by_its_text(recorded: InMemorySpanExporter, marker_secret: str) -> None:
    with pytest.raises(ValueError, match="pw-"), tracer.trace("a"):
        raise ValueError(marker_secret)
    (span,) = recorded.get_finished_spans()
    assert span.attributes == {"error.type": "builtins.ValueError"}
    assert span.status.status_code is trace.StatusCode.ERROR
    assert marker_secret not in span.to_json()


async def test_who_gives_up_is_no_error(recorded: InMemorySpanExporter) -> None:
    with pytest.raises(asyncio.CancelledError), tracer.trace("a"):
        raise asyncio.CancelledError
    (span,) = recorded.get_finished_spans()
    assert span.status.is_unset


def test_what_waits_to_be_sent_is_bounded_in_size(recorded: InMemorySpanExporter) -> None:
    with tracer.trace("a", **{f"key{number}": "x" * 100_000 for number in range(100)}):
        pass
    (span,) = recorded.get_finished_spans()
    assert len(span.to_json()) < 32 * 300 + 2000


async def test_each_handler_of_an_event_is_a_span_of_who_emits_it(recorded: InMemorySpanExporter) -> None:
    async def handle(_: Happened) -> None:
        """Do nothing."""

    async with LoggedEventBus() as bus:
        bus.register(Happened, handle)
        with tracer.trace("request"):
            await bus.emit(Happened())
        await bus.emit(Happened())
    within, request, alone = recorded.get_finished_spans()
    assert (within.name, within.parent) == ("event.handle", request.context)
    assert within.attributes is not None
    assert within.attributes["event"] == "Happened"
    assert str(within.attributes["handler"]).endswith("handle")
    assert (alone.name, alone.parent) == ("event.handle", None)


# What FastAPI tells


def app_told_of(provider: TracerProvider) -> FastAPI:
    app = FastAPI(
        telemetry={
            **Telemetry().for_fastapi(lambda _: False),
            "tracing": True,
            "tracer_provider": CarefulProvider(provider),
            "exclude": lambda scope: route_path(scope) == "/livez",
        }
    )

    @app.get("/livez")
    @app.get("/orders/{number}")
    async def order() -> str:
        return "well"

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    return app


def test_of_a_request_no_query_string_and_no_header_is_told(
    provider: TracerProvider, recorded: InMemorySpanExporter, marker_secret: str
) -> None:
    headers = {"Authorization": marker_secret, "Host": f"{marker_secret}.example", "User-Agent": marker_secret}
    with TestClient(app_told_of(provider), headers=headers) as client:
        client.get("/livez")
        client.get(f"/orders/7?token={marker_secret}")
        client.request(marker_secret, "/orders/7")
        with client.websocket_connect(f"/live?token={marker_secret}"):
            pass
    answered, refused, socket = recorded.get_finished_spans()
    assert answered.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/orders/{number}",
        "network.protocol.version": "1.1",
        "url.path": "/orders/7",
        "url.scheme": "http",
    }
    assert (answered.name, refused.name, socket.name) == ("GET /orders/{number}", "HTTP /orders/{number}", "WS /live")
    assert not any(marker_secret in span.to_json() for span in (answered, refused, socket))


async def test_a_client_that_leaves_is_no_error_and_what_fails_is_one(
    provider: TracerProvider, recorded: InMemorySpanExporter
) -> None:
    async def left() -> Message:
        return {"type": "http.disconnect"}

    async def ignore(_: Message) -> None:
        pass

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()
        if scope["path"] == "/raising":
            raise ClientDisconnect
        if scope["path"] == "/broken":
            raise RuntimeError("broken")

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise ConnectionError

    app = app_told_of(provider)
    app.mount("/failing", failing)
    app.mount("/", stream)
    for path in ("/left", "/raising", "/broken", "/failing/"):
        scope: Scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "headers": [],
            "query_string": b"",
            "root_path": "",
        }
        with suppress(ClientDisconnect, RuntimeError, ConnectionError):
            await app(scope, left, ignore)
    spans = [span for span in recorded.get_finished_spans() if span.kind is trace.SpanKind.SERVER]
    statuses = [span.status.status_code for span in spans]
    unset, error = trace.StatusCode.UNSET, trace.StatusCode.ERROR
    assert statuses == [unset, unset, error, error]
    types = [(span.attributes or {}).get("error.type") for span in spans]
    assert types == [None, None, "RuntimeError", "ConnectionError"]
    with suppress(ClientDisconnect), tracer.trace("a"):
        raise ClientDisconnect
    assert recorded.get_finished_spans()[-1].status.status_code is unset


def test_a_service_without_telemetry_has_none_of_fastapis_either() -> None:
    app = FastAPI(telemetry=Telemetry().for_fastapi(lambda _: False))
    assert not app._native_telemetry.enabled()


# Log lines


def test_a_line_within_a_trace_carries_its_ids(recorded: InMemorySpanExporter) -> None:
    stream = io.StringIO()
    try:
        configure_logging("INFO", "json", stream)
        log = structlog.get_logger("mine")
        log.info("before")
        with tracer.trace("a"):
            log.info("within")
            logging.getLogger("theirs").info("within")
    finally:
        structlog.reset_defaults()
        loguru.logger.remove()
        logging.basicConfig(handlers=[logging.NullHandler()], force=True)
    (span,) = recorded.get_finished_spans()
    before, *within = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert "trace_id" not in before
    ids = (f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}")
    assert [(line["trace_id"], line["span_id"]) for line in within] == [ids] * 2


# Starting, and collectors that do not take what they are given


def test_what_is_not_installed_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "_PARTS", ("opentelemetry_of_nobody.sdk",))
    with pytest.raises(StartError, match=r"pip install 'api-server\[telemetry\]'"):
        set_up_telemetry(Settings(telemetry="otlp"), "orders", "1.0")
    assert not is_tracing()
    set_up_telemetry(Settings(telemetry="off"), "orders", "1.0")


def test_off_loads_nothing_that_records() -> None:
    program = """
import sys
from api_server.settings import Settings
from api_server.telemetry import set_up_telemetry, Tracer
set_up_telemetry(Settings(), "orders", "1.0").for_fastapi(lambda scope: False)
with Tracer("orders").trace("a"):
    pass
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_service_is_called_what_the_standard_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    told = make_provider("orders", "1.0", 1.0).resource.attributes
    assert (told["service.name"], told["service.version"]) == ("orders", "1.0")
    assert told["service.instance.id"] != make_provider("orders", "1.0", 1.0).resource.attributes["service.instance.id"]
    monkeypatch.setenv("OTEL_SERVICE_NAME", "orders-eu")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    told = make_provider("orders", "1.0", 1.0).resource.attributes
    assert (told["service.name"], told["deployment.environment.name"]) == ("orders-eu", "test")


class Scripted(SpanExporter):
    """Fails or succeeds as it is told; where it hangs, until the test is over."""

    def __init__(self) -> None:
        self.fails = False
        self.hangs = threading.Event()
        self.exported = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.exported += len(spans)
        if self.fails:
            self.hangs.wait(10)
        return SpanExportResult.FAILURE if self.fails else SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Keep nothing."""


def test_a_collector_that_is_away_makes_a_line_now_and_then(provider: TracerProvider) -> None:
    now = [0.0]
    scripted = Scripted()
    scripted.hangs.set()
    exporter = ToldExporter(scripted, clock=lambda: now[0])
    spans = [span for span in [provider.get_tracer("tests").start_span("a")] if isinstance(span, ReadableSpan)]
    with capture_logs() as lines:
        scripted.fails = True
        for _ in range(1000):
            now[0] += 1
            assert exporter.export(spans) is SpanExportResult.FAILURE
        scripted.fails = False
        exporter.export(spans)
        exporter.export(spans)
    assert [(line["event"], line["lost_spans"]) for line in lines] == [
        ("telemetry not delivered", 1),
        ("telemetry not delivered", 301),
        ("telemetry not delivered", 601),
        ("telemetry not delivered", 901),
        ("telemetry delivered again", 1000),
    ]


async def test_nobody_waits_for_a_collector_that_hangs(
    monkeypatch: pytest.MonkeyPatch, provider: TracerProvider
) -> None:
    monkeypatch.setattr(setup, "_LEAVE_S", 0.2)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    scripted = Scripted()
    scripted.fails = True
    use_recorder(OtelRecorder(provider))
    telemetry = setup._Recorded(provider, lambda: scripted)
    async with telemetry.delivering():
        for _ in range(50):
            for _ in range(100):
                with tracer.trace("a"):
                    pass
            await asyncio.sleep(0)
        begun = time.monotonic()
    assert 0.15 < time.monotonic() - begun < 1.0
    assert not is_tracing()
    scripted.hangs.set()
    # What did not fit, and what was still to be sent, is lost; no more than the queue holds was ever kept.
    assert 0 < scripted.exported <= 2048 + 512


async def test_what_is_recorded_last_is_sent_before_a_process_leaves(provider: TracerProvider) -> None:
    scripted = Scripted()
    use_recorder(OtelRecorder(provider))
    async with setup._Recorded(provider, lambda: scripted).delivering():
        with tracer.trace("a"):
            pass
    assert scripted.exported == 1


async def test_a_queue_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, provider: TracerProvider) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")
    with pytest.raises(StartError, match="OTEL_BSP_"):
        async with setup._Recorded(provider, Scripted).delivering():
            pass


def test_headers_that_cannot_be_read_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, marker_secret: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"{marker_secret} without an equals sign")
    otlp_exporter().shutdown()
    assert caplog.records == []
