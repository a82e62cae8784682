"""Traces: where the time of a request goes, told to a collector. Off, it costs nothing and loads nothing."""

from api_server.telemetry.setup import Telemetry, require_installed, set_up_telemetry
from api_server.telemetry.spans import Span, Tracer, is_tracing, trace_ids

__all__ = ["Span", "Telemetry", "Tracer", "is_tracing", "require_installed", "set_up_telemetry", "trace_ids"]
