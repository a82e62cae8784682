"""A collector of telemetry: an HTTP server that takes spans by OTLP, as protobuf, and keeps them."""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

Value: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True)
class CollectedSpan:
    """A span as it was told; ids are hexadecimal, `parent` is empty for the first of a trace."""

    name: str
    trace_id: str
    span_id: str
    parent: str
    links: tuple[str, ...]
    is_error: bool
    begun: int
    ended: int
    attributes: dict[str, Value]
    resource: dict[str, Value]


class Collector(ThreadingHTTPServer):
    """Takes spans, and keeps the bytes of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []
        self.authorizations: list[str | None] = []
        self.environment = {
            **collected_at(f"http://127.0.0.1:{self.server_address[1]}"),
            "API_SERVER_TELEMETRY_RATIO": "1",
        }

    @property
    def spans(self) -> list[CollectedSpan]:
        """All that it was told so far."""
        return [span for body in list(self.bodies) for span in _spans(body)]

    def trace(self, trace_id: str) -> dict[str, CollectedSpan]:
        """Return what it was told of a trace so far, by the spans' names."""
        return {span.name: span for span in self.spans if span.trace_id == trace_id}

    def wait_for(self, is_there: Callable[["Collector"], object], timeout: float = 10.0) -> None:
        """Wait until this is true of it."""
        deadline = time.monotonic() + timeout
        while not is_there(self):
            names = [span.name for span in self.spans]
            assert time.monotonic() < deadline, f"it was not told within {timeout} s: {names}"
            time.sleep(0.02)


def collected_at(endpoint: str) -> dict[str, str]:
    """Return variables of a service that tells a collector here, ten times a second."""
    return {
        "API_SERVER_TELEMETRY": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector for as long as the context lasts."""
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


@contextmanager
def black_hole() -> Iterator[str]:
    """Give the URL of a collector that lets everybody connect, and answers nobody."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class _Handler(BaseHTTPRequestHandler):
    # By HTTP/1.0: no connection stays open from one test to the next.
    server: Collector

    def do_POST(self) -> None:
        self.server.authorizations.append(self.headers.get("Authorization"))
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def _spans(body: bytes) -> Iterator[CollectedSpan]:
    for told in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = _values(told.resource.attributes)
        for scope in told.scope_spans:
            for span in scope.spans:
                yield CollectedSpan(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    links=tuple(link.trace_id.hex() for link in span.links),
                    is_error=span.status.code == span.status.STATUS_CODE_ERROR,
                    begun=span.start_time_unix_nano,
                    ended=span.end_time_unix_nano,
                    attributes=_values(span.attributes),
                    resource=resource,
                )


def _values(attributes: Iterable[KeyValue]) -> dict[str, Value]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value") for one in attributes}
