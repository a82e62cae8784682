"""What the event bus refuses."""


class HandlerRefusedError(TypeError):
    """A handler cannot be what it is registered as; the message says why."""

    def __init__(self, handler: str, event: str, reason: str) -> None:
        super().__init__(f"{handler} cannot handle {event}: {reason}")
        self.handler = handler
        self.reason = reason


class EventBusClosedError(RuntimeError):
    """The bus was closed: it takes no event and no handler any more, and handlers that took too long were cancelled."""
