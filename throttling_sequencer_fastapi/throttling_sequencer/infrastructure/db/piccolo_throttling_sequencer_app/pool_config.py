"""The one connection pool of a process, and the Piccolo engine that runs its queries through it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import asyncpg
from api_server.exceptions import StartError
from piccolo.engine.postgres import PostgresEngine

from throttling_sequencer.core.database_config import PiccoloDBConfig
from throttling_sequencer.core.settings import SequencerSettings
from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.infrastructure.db.primary import (
    SESSION,
    NoRoomError,
    PrimaryConnector,
    Writer,
    WriterEvents,
)
from throttling_sequencer.infrastructure.db.retrying import start_retrying
from throttling_sequencer.infrastructure.db.trouble import CommitInDoubtError, says_lost
from throttling_sequencer.infrastructure.writer_events import LoggedWriterEvents

_CONNECT_TIMEOUT_S = 2.0
_CLOSE_TIMEOUT_S = 2.0

# Who waits for longer than this has the other hosts asked: the server may have been frozen, and another one promoted.
_SLOW_S = 0.2
_LOOK_FOR_S = 1.0

# How often the first in the line looks for a connection that was given back, while no other can be made.
_FREE_S = 0.01


class SequencerEngine(PostgresEngine):
    """Piccolo's engine, made without a connection; it reads `PICCOLO_DB_*` when it makes one.

    Piccolo's own connects when it is made, which is when the first module that knows a table is imported.
    """

    def __init__(self) -> None:
        super().__init__(config={})
        self.connector: PrimaryConnector | None = None
        self.events: WriterEvents = LoggedWriterEvents()
        self._line = asyncio.Lock()

    async def check_version(self) -> None:
        """Look at nothing; the server's version is whoever's who runs it."""

    async def prep_database(self) -> None:
        """Create no extension: the tables need none."""

    async def get_new_connection(self) -> asyncpg.Connection:
        connection: asyncpg.Connection = await asyncpg.connect(**_connection(PiccoloDBConfig()))
        return connection

    async def start_connection_pool(self, **kwargs: Any) -> None:  # noqa: ANN401 - asyncpg's own
        self.connector = PrimaryConnector(PiccoloDBConfig(), self.events)
        # A lock belongs to the event loop that it was first waited for in.
        self._line = asyncio.Lock()
        await super().start_connection_pool(connect=self.connector.connect, **kwargs)

    async def acquire(self, timeout_s: float) -> asyncpg.Connection:
        """Take a connection of the pool within this time.

        While the server lets nobody else in, whoever comes waits, in turn, for a connection that works; each draws a
        place of the pool that has none as soon as it may be filled again.
        """
        pool, connector = self.pool, self.connector
        if pool is None or connector is None:
            raise StorageUnavailableError("no database is configured")
        async with asyncio.timeout(timeout_s):
            while True:
                async with self._line:
                    # asyncpg tells nobody that a connection was given back.
                    while connector.has_no_room and not pool.get_idle_size():  # noqa: ASYNC110 - as above
                        await asyncio.sleep(_FREE_S)
                with suppress(NoRoomError):
                    connection: asyncpg.Connection = await pool.acquire()
                    return connection

    @property
    def writer(self) -> Writer | None:
        """The server that the pool's connections lead to, None where none was found yet."""
        return self.connector.writer if self.connector is not None else None

    async def heed(self, error: BaseException, writer: Writer | None) -> None:
        """Draw from an error what it means for the pool's other connections, and for the next one.

        `writer` was the one when the connection was taken; what it said is of no interest once there is another.
        """
        if self.pool is None or self.connector is None or writer not in {None, self.connector.writer}:
            return
        if says_lost(error):
            await self.pool.expire_connections()
        if says_lost(error) or isinstance(error, (TimeoutError, CommitInDoubtError)):
            self.connector.doubt()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Have the other hosts asked, in the background, where what is done takes long."""
        connector = self.connector
        if connector is None:
            yield
            return

        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            timer = loop.call_later(_LOOK_FOR_S, look)
            connector.look_around(_LOOK_FOR_S, no_sooner_than_s=_LOOK_FOR_S)

        timer = loop.call_later(_SLOW_S, look)
        try:
            yield
        finally:
            timer.cancel()


DB = SequencerEngine()


async def start_pool() -> None:
    """Start the process's pool; it connects when it is used, so that a service starts without its database.

    Where `PICCOLO_DB_HOST` is unset there is no database, and no pool.
    """
    config = PiccoloDBConfig()
    if config.host:
        start_retrying(SequencerSettings().store_waiting)
        await DB.start_connection_pool(min_size=0, max_size=config.pool_size)


async def stop_pool() -> None:
    """Close the pool, and cut off what does not end within two seconds; without a pool, do nothing."""
    if DB.pool is None:
        return
    try:
        # A pool that cannot be closed in time terminates its connections by itself.
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await DB.pool.close()
    finally:
        DB.pool = None
        if DB.connector is not None:
            await DB.connector.close()
            DB.connector = None


def _connection(config: PiccoloDBConfig) -> dict[str, Any]:
    if not config.addresses:
        raise StartError("PICCOLO_DB_HOST is not set: there is no database to connect to.")
    hosts, ports = zip(*config.addresses, strict=True)
    return {
        "host": list(hosts),
        "port": list(ports),
        "user": config.user,
        "password": config.password.get_secret_value(),
        "database": config.database,
        "timeout": _CONNECT_TIMEOUT_S,
        # Of several hosts, the one that takes writes.
        "target_session_attrs": "read-write" if len(hosts) > 1 else "any",
        **SESSION,
    }
