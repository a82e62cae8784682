"""The configuration that the next search uses, and how it is kept up to date."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.domain.genetic_path import GeneticConfiguration

_RETRY_S = 0.2


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


class CurrentConfiguration:
    """Holds what the store has, and what the service was started with where the store has nothing."""

    def __init__(
        self, configured: GeneticConfiguration, store: ConfigurationStore, events: ConfigurationEvents
    ) -> None:
        self._configured = configured
        self._store = store
        self._events = events
        self._current = configured
        self._reading = asyncio.Lock()
        self._is_stale = asyncio.Event()

    @property
    def value(self) -> GeneticConfiguration:
        """The configuration of a search that begins now."""
        return self._current

    async def refresh(self) -> None:
        """Read the store again; where it is away, what is held stays, and `kept_fresh` tries until it answers.

        Several calls read one after the other, so that what is held in the end is no older than the last call.
        """
        async with self._reading:
            try:
                kept = await self._store.default_configuration()
            except StorageUnavailableError:
                self._is_stale.set()
                return
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
            with suppress(asyncio.CancelledError):
                await task

    async def _retry(self) -> None:
        while True:
            await self._is_stale.wait()
            await asyncio.sleep(_RETRY_S)
            self._is_stale.clear()
            await self.refresh()
