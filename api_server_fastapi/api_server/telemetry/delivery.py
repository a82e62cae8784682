"""How spans leave the process, and what is said of it when they do not."""

import logging
import sys
import time
from collections.abc import Callable, Sequence

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult

_TELL_EVERY_S = 300.0

log = structlog.get_logger("api_server.telemetry")


def otlp_exporter() -> SpanExporter:
    """Make what sends spans to the collector that the variables `OTEL_EXPORTER_OTLP_*` name."""
    _silence_opentelemetry()
    return ToldExporter(OTLPSpanExporter())


def console_exporter() -> SpanExporter:
    """Make what writes each span to standard output, as a line of JSON."""
    _silence_opentelemetry()
    return ConsoleSpanExporter(out=sys.stdout, formatter=lambda span: f"{span.to_json(indent=None)}\n")


class ToldExporter(SpanExporter):
    """Writes a line when spans are not delivered, again every five minutes at most, and when they are again."""

    def __init__(self, exporter: SpanExporter, clock: Callable[[], float] = time.monotonic) -> None:
        self._exporter = exporter
        self._clock = clock
        self._lost = 0
        self._tells_at = 0.0
        self._is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._delivered()
        else:
            self._failed(len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def _delivered(self) -> None:
        if self._is_failing:
            log.info("telemetry delivered again", lost_spans=self._lost)
        self._is_failing, self._lost = False, 0

    def _failed(self, spans: int) -> None:
        self._lost += spans
        if not self._is_failing or self._clock() >= self._tells_at:
            log.warning("telemetry not delivered", lost_spans=self._lost)
            self._is_failing, self._tells_at = True, self._clock() + _TELL_EVERY_S


def _silence_opentelemetry() -> None:
    # It would write a line for each batch and for each span that finds no room, and the headers that it cannot read,
    # which are secrets.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
