"""How the pool's connections find the server that takes writes, wherever it has moved."""

import asyncio
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import asyncpg

from throttling_sequencer.core.database_config import PiccoloDBConfig
from throttling_sequencer.infrastructure.db.primary_search import (
    Address,
    Found,
    NoRoomError,
    Race,
    Search,
    Writer,
    ended,
)
from throttling_sequencer.infrastructure.db.trouble import DATABASE_ERRORS, in_words, says_no_room

__all__ = ["SESSION", "NoRoomError", "NotTheWriterError", "PrimaryConnector", "Writer", "WriterEvents"]

# Null on a standby, where the rest would be an error.
_TIMELINE = """
    SELECT CASE WHEN NOT pg_is_in_recovery()
        THEN ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int
    END
"""

# A server that has no timeline, or does not tell it to everybody: no such function, not supported, not allowed.
_NOT_TOLD = ("0A", "42", "55")

# A search that nobody's patience ended: from then on each host is asked less often.
_LONG_S = 30.0
_LONG_PAUSES = 4.0

# By then it is no blip.
_TELL_AFTER_S = 0.5

_AT_A_TIME = 2

# How long nobody else tries to log in to a server that has no room for another connection, while some work.
_NO_ROOM_S = 0.3

# Where nothing else has the hosts asked: a server that was replaced may go on to answer.
_NOW_AND_THEN_S = 5.0
_LOOK_S = 1.0

_KEEP_ALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 3000}


class WriterEvents(Protocol):
    """What happens to the server that takes writes, for whoever wants to tell others."""

    def changed(self, before: Writer | None, after: Writer, outage_s: float) -> None:
        """Tell of another one than before (None before the first), after so many seconds without one."""

    def returned(self, writer: Writer, outage_s: float) -> None:
        """Tell that it is the same again, after it was lost."""

    def lost(self, reason: str) -> None:
        """Tell, once until one is found, that there is none."""

    def fenced(self, writer: Writer, newest_timeline: int) -> None:
        """Tell, once of each, of a server that would take writes, after which another one was promoted."""


class NotTheWriterError(ConnectionError):
    """A server answers, and is not the one to write to."""


class PrimaryConnector:
    """Makes connections to the one server, of those configured, that takes writes.

    Where it is not known, or there are doubts, all hosts are asked at once and again and again until one of them is it,
    by one search for everybody who waits; a host that answers nothing delays nobody. Of two, the one with the higher
    timeline is it, and one with a lower timeline than was seen before never is again.
    """

    def __init__(
        self,
        config: PiccoloDBConfig,
        events: WriterEvents,
        *,
        clock: Callable[[], float] = time.monotonic,
        host_timeout_s: float = 0.5,
        longest_host_timeout_s: float = 4.0,
        grace_s: float = 0.05,
        pauses_s: tuple[float, float] = (0.025, 0.075),
    ) -> None:
        self.writer: Writer | None = None
        self.lost_since: float | None = None
        # Whether every host has answered, last, that it is not the writer.
        self.is_refused = False
        self._listeners: set[Callable[[], None]] = set()
        self._addresses = config.addresses
        self._login = {
            "user": config.user,
            "password": config.password.get_secret_value(),
            "database": config.database,
        }
        self._events = events
        self._clock = clock
        self._host_timeout_s = host_timeout_s
        self._longest_host_timeout_s = longest_host_timeout_s
        self._grace_s = grace_s
        self._pauses_s = pauses_s
        # How long a host may take: one that is far away needs more than one that is near.
        self._patience = dict.fromkeys(self._addresses, host_timeout_s)
        self._newest_timeline: int | None = None
        self._fenced: set[Writer] = set()
        self._is_trusted = False
        self._no_room_until = float("-inf")
        # To log in costs milliseconds of the event loop. When a pool is filled anew, the first connections are to work
        # while the next are made.
        self._few_at_a_time = asyncio.Semaphore(_AT_A_TIME)
        self._is_told_lost = False
        self._errors: dict[Address, Exception] = {}
        self._connections: WeakKeyDictionary[asyncpg.Connection, Writer] = WeakKeyDictionary()
        self._search: Search | None = None
        self._looking: asyncio.Task[None] | None = None
        self._looks_until = float("-inf")
        self._looked_at = float("-inf")

    @property
    def trouble(self) -> str | None:
        """Why none is found, None where one is, or nothing is known yet."""
        if self.lost_since is None or not self._errors:
            return None
        if len({in_words(error) for error in self._errors.values()}) == 1:
            return in_words(next(iter(self._errors.values())))
        return "; ".join(f"{host}:{port}: {in_words(error)}" for (host, port), error in self._errors.items())

    @property
    def lost_for_s(self) -> float:
        """For how many seconds none has been found by who looked."""
        return 0.0 if self.lost_since is None else self._clock() - self.lost_since

    async def connect(self, *_: object, **__: object) -> asyncpg.Connection:
        """Return a connection to the server that takes writes, as soon as there is one; who asks bounds the time.

        Raises at once what waiting does not mend, such as a wrong password, and NoRoomError. What a pool adds are
        asyncpg's defaults.
        """
        while True:
            async with self._few_at_a_time:
                if self.has_no_room:
                    raise NoRoomError("the server lets nobody else in")
                if (connection := await self._connected_to_known()) is not None:
                    return connection
            if self.lost_since is None:
                self.lost_since = self._clock()
            try:
                connection = await self._searched()
            except NoRoomError:
                self.lost_since = None
                raise
            if connection is not None:
                return connection

    @property
    def has_no_room(self) -> bool:
        """Whether the writer has just let nobody else in, and connections to it are there to be waited for."""
        return self._clock() < self._no_room_until and self._has_live_connections()

    @contextmanager
    def telling(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call a listener, for as long as the context lasts, where `is_refused` changes."""
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)

    def doubt(self) -> None:
        """Ask all hosts before the next connection is made: something speaks against the server that is known."""
        self._is_trusted = False

    def look_around(self, seconds: float, *, no_sooner_than_s: float = 0.0) -> None:
        """Search in the background for so long, or until one is found; `no_sooner_than_s` after the last such call."""
        now = self._clock()
        if now - self._looked_at < no_sooner_than_s:
            return
        self._looked_at = now
        self._looks_until = max(self._looks_until, now + seconds)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="looking for the writer")

    def look_around_now_and_then(self) -> None:
        """Search in the background, not often, for a server that was promoted while the known one goes on to answer."""
        if len(self._addresses) > 1:
            self.look_around(_LOOK_S, no_sooner_than_s=_NOW_AND_THEN_S)

    async def close(self) -> None:
        """End what runs in the background."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        if self._search is not None:
            await self._search.end()

    async def _look(self) -> None:
        while (left := self._looks_until - self._clock()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    try:
                        connection = await self._searched()
                    except NoRoomError:
                        # Another one may be promoted a moment later.
                        await asyncio.sleep(self._pauses_s[1])
                        continue
                    except DATABASE_ERRORS:
                        return
                if connection is not None:
                    connection.terminate()
                return

    async def _searched(self) -> asyncpg.Connection | None:
        """Wait for a search, and return its connection, None where somebody else got that one."""
        if self._search is None or self._search.is_over:
            self._search = Search(self._find())
        return await self._search.wait()

    async def _find(self) -> asyncpg.Connection:
        race = Race(len(self._addresses), set(self._addresses))
        asking = [asyncio.create_task(self._ask(address, race)) for address in self._addresses]
        chosen: asyncpg.Connection | None = None
        try:
            known = self.writer
            writer, chosen = await race.winner(self._grace_s, known)
            self._accept(writer, is_known_lost=known is not None and known.address in race.errors)
            await ended(asking)
        except BaseException:
            chosen = None
            await ended(asking)
            raise
        finally:
            for _, found in race.found:
                if found is not chosen:
                    found.terminate()
        return chosen

    async def _ask(self, address: Address, race: Race) -> None:
        """Ask a host again and again until it takes writes."""
        begun = self._clock()
        while True:
            try:
                found = await self._open(address)
            except (ValueError, *DATABASE_ERRORS) as error:
                no_room = self._no_room(address, error)
                if no_room is None:
                    self._note(address, error)
                race.failed(address, error, no_room)
                self._set_refused(is_refused=race.is_refused)
            else:
                race.succeeded(address, found)
                return
            slower = _LONG_PAUSES if self._clock() - begun > _LONG_S else 1.0
            await asyncio.sleep(slower * random.uniform(*self._pauses_s))

    async def _connected_to_known(self) -> asyncpg.Connection | None:
        """Return a connection to the server that is known, None where it is not trusted (any more)."""
        if self.writer is None or not self._is_trusted:
            return None
        address = self.writer.address
        try:
            return await self._connect_to(address)
        except DATABASE_ERRORS as error:
            if (no_room := self._no_room(address, error)) is not None:
                raise no_room from error
            self._errors[address] = error
            self.doubt()
            return None

    async def _connect_to(self, address: Address) -> asyncpg.Connection:
        writer, connection = await self._open(address)
        try:
            self._accept(writer)
        except NotTheWriterError:
            connection.terminate()
            raise
        return connection

    async def _open(self, address: Address) -> Found:
        """Connect to a host; raises NotTheWriterError where another one has been promoted after it."""
        begun = self._clock()
        guard = asyncio.timeout(self._patience[address])
        try:
            async with guard:
                writer, connection = await self._connected(address)
        except TimeoutError:
            if guard.expired():
                self._patience[address] = min(2 * self._patience[address], self._longest_host_timeout_s)
            raise
        self._patience[address] = max(self._host_timeout_s, 3 * (self._clock() - begun))
        return writer, connection

    async def _connected(self, address: Address) -> Found:
        host, port = address
        connection: asyncpg.Connection = await asyncpg.connect(
            host=host, port=port, target_session_attrs="read-write", timeout=None, **SESSION, **self._login
        )
        try:
            _notice_when_it_is_dead(connection)
            writer = Writer(host, port, await _timeline(connection))
            self._refuse_an_older(writer)
        except BaseException:
            connection.terminate()
            raise
        self._connections[connection] = writer
        return writer, connection

    def _refuse_an_older(self, writer: Writer) -> None:
        newest = self._newest_timeline
        if writer.timeline is None or newest is None or writer.timeline >= newest:
            return
        if writer not in self._fenced:
            self._fenced.add(writer)
            self._events.fenced(writer, newest)
        raise NotTheWriterError(f"its timeline {writer.timeline} is older than {newest}: another was promoted after it")

    def _accept(self, writer: Writer, *, is_known_lost: bool = False) -> None:
        """Take a server for the one to write to, from now on.

        `is_known_lost` says that at the address of the one before there is none any more.
        """
        # Between its answer and now, another one may have been found.
        self._refuse_an_older(writer)
        if writer.timeline is not None:
            self._newest_timeline = writer.timeline
        outage_s, before, self.writer = self.lost_for_s, self.writer, writer
        was_told_lost, self._is_told_lost = self._is_told_lost, False
        self.lost_since, self._is_trusted = None, True
        self._errors.clear()
        self._set_refused(is_refused=False)
        if writer != before:
            # The same timeline at two addresses is one server, whose connections all work.
            if is_known_lost or writer.timeline is None or before is None or writer.timeline != before.timeline:
                self._cut_off_others()
            self._events.changed(before, writer, outage_s)
        elif was_told_lost:
            self._events.returned(writer, outage_s)

    def _cut_off_others(self) -> None:
        """End the connections to who was the writer, those in use too: what is asked there leads nowhere."""
        for connection, writer in list(self._connections.items()):
            if writer != self.writer:
                connection.terminate()
                self._connections.pop(connection, None)

    def _no_room(self, address: Address, error: Exception) -> NoRoomError | None:
        """Return what an error means to who could use other connections to the same server, None where it is another.

        While a server stops, or has as many connections as it may, those that it has work.
        """
        if self.writer is None or address != self.writer.address:
            return None
        if not says_no_room(error) or not self._has_live_connections():
            return None
        self._no_room_until = self._clock() + _NO_ROOM_S
        return NoRoomError(in_words(error))

    def _has_live_connections(self) -> bool:
        known = self.writer
        return any(writer == known and not connection.is_closed() for connection, writer in self._connections.items())

    def _set_refused(self, *, is_refused: bool) -> None:
        if is_refused != self.is_refused:
            self.is_refused = is_refused
            for listener in list(self._listeners):
                listener()

    def _note(self, address: Address, error: Exception) -> None:
        self._errors[address] = error
        if not self._is_told_lost and self.lost_for_s > _TELL_AFTER_S:
            self._is_told_lost = True
            self._events.lost(self.trouble or in_words(error))


SESSION: dict[str, Any] = {
    "command_timeout": 1.0,
    # PgBouncer may give the next statement another server connection, where a statement prepared on this one does not
    # exist.
    "statement_cache_size": 0,
    # It refuses to start a session with settings that it does not know; this one it does.
    "server_settings": {"application_name": "throttling_sequencer"},
}


async def _timeline(connection: asyncpg.Connection) -> int | None:
    try:
        timeline: int | None = await connection.fetchval(_TIMELINE)
    except asyncpg.PostgresError as error:
        if not (error.sqlstate or "").startswith(_NOT_TOLD):
            raise
        return None
    if timeline is None:
        raise NotTheWriterError("it is a standby")
    return timeline


def _notice_when_it_is_dead(connection: asyncpg.Connection) -> None:
    """Have the system end a connection whose other side is gone without a word."""
    # asyncpg tells its socket to nobody.
    raw = connection._transport.get_extra_info("socket")  # noqa: SLF001 - as above
    if raw is None or raw.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        # Not every system has each of them.
        if (option := getattr(socket, name, None)) is not None:
            raw.setsockopt(socket.IPPROTO_TCP, option, value)
