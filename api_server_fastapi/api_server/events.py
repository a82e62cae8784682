"""What happens in the foundation, for whoever has to know."""

from uuid import UUID

from api_server.event_bus import BaseEvent


class PresetChanged(BaseEvent):
    """A preset was created, changed or deleted, by whichever process; read it to know how it is now."""

    preset_id: UUID
    kind: str


class EventsMayBeMissed(BaseEvent):
    """This process begins to hear of what happens in others, or does so again: read anew what is held in memory."""
