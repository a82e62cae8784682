"""The bus of a service, whose failures are events in the log, and whose handlers are spans of a trace."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from api_server.event_bus import BaseEvent, EventBus
from api_server.telemetry import Tracer

log = structlog.get_logger("api_server.event_bus")
tracer = Tracer("api_server")


class LoggedEventBus(EventBus):
    """Writes a line for each failure of a handler, with the context of who emitted the event."""

    def failed(self, event: BaseEvent, handler_name: str, error: BaseException) -> None:
        log.error("event handler failed", handler=handler_name, of=type(event).__name__, exc_info=error)

    @contextmanager
    def handling(self, event: BaseEvent, handler_name: str) -> Iterator[None]:
        """Make a span of it, in the trace of who emitted the event; what came by the relay begins one."""
        with tracer.span_or_trace("event.handle", handler=handler_name, event=type(event).__name__):
            yield
