"""An event bus that keeps what it brings, and how tests wait for what it hears."""

import asyncio
from collections.abc import Awaitable, Callable

from api_server.event_bus import BaseEvent, EventBus


class RecordingBus(EventBus):
    """Keeps the events, and lets `handler` handle them."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[BaseEvent] = []
        self.handler: Callable[[BaseEvent], Awaitable[None]] | None = None
        self.register(BaseEvent, self.record)

    async def record(self, event: BaseEvent) -> None:
        self.events.append(event)
        if self.handler is not None:
            await self.handler(event)


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until something holds. Raises TimeoutError where it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
