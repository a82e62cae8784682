"""One search for the server that takes writes, for everybody who waits for it, and the race that it is."""

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import asyncpg

from throttling_sequencer.infrastructure.db.trouble import is_full_house, is_lasting

Address: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Writer:
    """A server that takes writes; the timeline, where it tells it, grows by one with each promotion."""

    host: str
    port: int
    timeline: int | None

    @property
    def address(self) -> Address:
        return self.host, self.port


Found: TypeAlias = tuple[Writer, asyncpg.Connection]


class NoRoomError(asyncpg.TooManyConnectionsError):  # type: ignore[misc] # asyncpg has no types
    """The writer lets nobody else in just now, while connections to it work: whoever waits is to wait for those."""


class Search:
    """A search that many wait for: it ends when it is successful, or when nobody waits any more."""

    def __init__(self, find: Awaitable[asyncpg.Connection]) -> None:
        self._task = asyncio.ensure_future(find)
        self._waiting = 0
        self._is_given = False
        self._is_ended = False

    @property
    def is_over(self) -> bool:
        return self._is_ended or self._task.done()

    async def wait(self) -> asyncpg.Connection | None:
        """Return the connection that was found to the first who waits, None to others; raise what it raises."""
        self._waiting += 1
        try:
            await asyncio.wait({self._task})
        except asyncio.CancelledError:
            if self._waiting == 1:
                await self.end()
            raise
        finally:
            self._waiting -= 1
        # From here on nothing is awaited: whoever were cancelled there would take what was found along.
        if self._task.cancelled() or self._is_given:
            return None
        connection = self._task.result()
        self._is_given = True
        return connection

    async def end(self) -> None:
        """Stop searching, and let go of what was found for nobody."""
        self._is_ended = True
        self._task.cancel()
        self._task.add_done_callback(self._let_go)
        await asyncio.wait({self._task})

    def _let_go(self, _: asyncio.Future[asyncpg.Connection]) -> None:
        if not self._is_given and not self._task.cancelled() and self._task.exception() is None:
            self._is_given = True
            self._task.result().terminate()


@dataclass
class Race:
    """What the hosts have answered so far."""

    hosts: int
    silent: set[Address]
    found: list[Found] = field(default_factory=list)
    errors: dict[Address, Exception] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    no_room: NoRoomError | None = None

    def succeeded(self, address: Address, found: Found) -> None:
        self.found.append(found)
        self.errors.pop(address, None)
        self.silent.discard(address)
        self.news.set()

    def failed(self, address: Address, error: Exception, no_room: NoRoomError | None) -> None:
        self.errors[address] = error
        self.no_room = no_room or self.no_room
        # Who did not answer in time has not refused.
        if isinstance(error, TimeoutError):
            self.silent.add(address)
        else:
            self.silent.discard(address)
        self.news.set()

    async def winner(self, grace_s: float, known: Writer | None) -> Found:
        """Return the one found, of several that with the highest timeline, or else the known one.

        Who has said nothing has some grace, the known one all its time where no other was promoted after it. Raises a
        host's error where waiting mends that of no host, and NoRoomError where the known one has connections that work,
        and lets nobody else in.
        """
        while not self.found and self.no_room is None:
            await self._wait_for_news()
            if not self.found and self.is_hopeless:
                raise next(iter(self.errors.values()))
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while self.silent:
                    await self._wait_for_news()
        if not self.found and self.no_room is not None:
            raise self.no_room
        while self._may_be_another_address_of(known):
            await self._wait_for_news()
        return self._best(known)

    def _best(self, known: Writer | None) -> Found:
        return max(
            self.found, key=lambda one: (one[0].timeline or 0, known is not None and known.address == one[0].address)
        )

    def _may_be_another_address_of(self, known: Writer | None) -> bool:
        """Whether the best one may be the known one at another address, and that one has yet to answer at its own."""
        if known is None or known.timeline is None or known.timeline != self._best(known)[0].timeline:
            return False
        return known.address in self.silent and known.address not in self.errors

    async def _wait_for_news(self) -> None:
        await self.news.wait()
        self.news.clear()

    @property
    def is_refused(self) -> bool:
        """Whether every host has last answered that it is not the writer, or cannot be reached.

        What waiting does not mend is said to who waits, as it is; and one that is full may be the writer.
        """
        is_full = self.no_room is not None or any(map(is_full_house, self.errors.values()))
        return not self.silent and not self.is_hopeless and not is_full

    @property
    def is_hopeless(self) -> bool:
        """Whether every host has last answered with what waiting does not mend."""
        return len(self.errors) == self.hosts and all(map(is_lasting, self.errors.values()))


async def ended(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel tasks, and return when they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
