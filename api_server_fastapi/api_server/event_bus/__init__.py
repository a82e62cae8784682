"""Events within a process, and who handles them. It knows no framework, no database and no container."""

from api_server.event_bus.bus import EventBus
from api_server.event_bus.errors import EventBusClosedError, HandlerRefusedError
from api_server.event_bus.event import BaseEvent
from api_server.event_bus.handler import Handler, Services
from api_server.event_bus.stream import EventStream

__all__ = [
    "BaseEvent",
    "EventBus",
    "EventBusClosedError",
    "EventStream",
    "Handler",
    "HandlerRefusedError",
    "Services",
]
