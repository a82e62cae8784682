"""The configuration that the next search uses, and how it is kept up to date."""

import asyncio
from typing import Protocol

from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.domain.genetic_path import GeneticConfiguration

_RETRY_S = 0.2


class ConfigurationStore(Protocol):
    """Where a configuration is kept that every process of the service shares."""

    async def default_configuration(self) -> GeneticConfiguration | None:
        """Return it, or None where none is kept. Raises StorageUnavailableError."""
        ...


class CurrentConfiguration:
    """Holds what the store has, and what the service was started with where the store has nothing."""

    def __init__(self, configured: GeneticConfiguration, store: ConfigurationStore) -> None:
        self._configured = configured
        self._store = store
        self._current = configured
        self._reading = asyncio.Lock()

    @property
    def value(self) -> GeneticConfiguration:
        """The configuration of a search that begins now."""
        return self._current

    async def refresh(self) -> bool:
        """Read the store again, as often as it takes until it answers, and return whether anything changed.

        Several calls read one after the other, so that what is held in the end is no older than the last call.
        """
        async with self._reading:
            before, self._current = self._current, await self._read() or self._configured
            return self._current != before

    async def _read(self) -> GeneticConfiguration | None:
        while True:
            try:
                return await self._store.default_configuration()
            except StorageUnavailableError:
                await asyncio.sleep(_RETRY_S)
