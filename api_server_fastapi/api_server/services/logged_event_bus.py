"""The bus of a service, whose failures are events in the log."""

import structlog

from api_server.event_bus import BaseEvent, EventBus

log = structlog.get_logger("api_server.event_bus")


class LoggedEventBus(EventBus):
    """Writes a line for each failure of a handler, with the context of who emitted the event."""

    def failed(self, event: BaseEvent, handler_name: str, error: BaseException) -> None:
        log.error("event handler failed", handler=handler_name, of=type(event).__name__, exc_info=error)
