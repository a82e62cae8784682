"""What the sequencer does when something happened, in this process or another one."""

from api_server.events import EventsMayBeMissed, PresetChanged

from throttling_sequencer.api.presets import GENETIC_CONFIGURATION
from throttling_sequencer.application.configuration import CurrentConfiguration


async def preset_changed(event: PresetChanged, configuration: CurrentConfiguration) -> None:
    """Use another configuration from the next request on, where the preset is one."""
    if event.kind == GENETIC_CONFIGURATION:
        await configuration.refresh()


async def events_may_be_missed(event: EventsMayBeMissed, configuration: CurrentConfiguration) -> None:  # noqa: ARG001 - it tells no more than that
    """Read again what is held."""
    await configuration.refresh()
