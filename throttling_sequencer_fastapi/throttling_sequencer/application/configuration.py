"""The configuration that the next search uses, and how it is kept up to date."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Protocol

from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.domain.genetic_path import GeneticConfiguration

_SHORTEST_RETRY_S, _LONGEST_RETRY_S = 0.2, 1.0


class ConfigurationStore(Protocol):
    """Where a configuration is kept that every process of the service shares."""

    async def default_configuration(self) -> GeneticConfiguration | None:
        """Return it, or None where none is kept. Raises StorageUnavailableError."""
        ...


class ConfigurationEvents(Protocol):
    """Hears what an operator should know about the configuration."""

    def changed(self, *, is_kept: bool) -> None:
        """Hear that searches use another one from now on: the one that is kept, or that of the settings again."""
        ...

    def failed(self, error: Exception) -> None:
        """Hear that it could not be read for a reason that is not the storage's."""
        ...


class CurrentConfiguration:
    """Holds what the store has, and what the service was started with where the store has nothing."""

    def __init__(
        self, configured: GeneticConfiguration, store: ConfigurationStore, events: ConfigurationEvents
    ) -> None:
        self._configured = configured
        self._store = store
        self._events = events
        self._current = configured
        self._numbers = count(1)
        self._newest = 0
        self._is_stale = asyncio.Event()

    @property
    def value(self) -> GeneticConfiguration:
        """The configuration of a search that begins now."""
        return self._current

    async def refresh(self) -> None:
        """Read the store again; where that fails, what is held stays, and `kept_fresh` tries until it succeeds.

        Of several calls at once the one that began last decides: what an earlier one read may be older.
        """
        number = next(self._numbers)
        try:
            kept = await self._store.default_configuration()
        # Whatever it is, who did not try again would hold for ever what is no longer true.
        except Exception as error:  # noqa: BLE001 - told, and tried again
            if not isinstance(error, StorageUnavailableError):
                self._events.failed(error)
            self._is_stale.set()
            return
        if number > self._newest:
            self._newest = number
            before, self._current = self._current, kept or self._configured
            if self._current != before:
                self._events.changed(is_kept=kept is not None)

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """For as long as the context lasts, repeat what `refresh` could not do."""
        task = asyncio.create_task(self._retry(), name="configuration")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _retry(self) -> None:
        while True:
            await self._is_stale.wait()
            delay = _SHORTEST_RETRY_S
            while self._is_stale.is_set():
                await asyncio.sleep(delay)
                self._is_stale.clear()
                await self.refresh()
                delay = min(2 * delay, _LONGEST_RETRY_S)
