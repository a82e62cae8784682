"""PostgreSQL advisory locks: of all the processes of all instances of a service, one at a time.

    with advisory_lock(AdvisoryLock.MIGRATION):
        migrate()

A lock lives in a connection of its own, straight to the primary, and never in the caller's session: it outlasts the
caller's transactions, is given up whatever happens in the body, and by the server within moments if the process dies.
"""

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import AsyncConnection

from api_server.database.conninfo import UnreadableUrlError, conninfo
from api_server.settings import get_settings

_POLL_INTERVAL_S = 0.2

# How long a single statement may take: none of them waits for anything.
_ANSWER_TIMEOUT_S = 5.0

# The connection is idle while the lock is held; a dead peer is noticed all the same.
_CONNECTION: dict[str, str | int] = {
    "application_name": "api_server advisory lock",
    "connect_timeout": 5,
    "target_session_attrs": "primary",
}

# The same on the server's side, which frees the lock of a machine that vanished; and idle is what a holder is.
_PREPARE_SESSION = """
    SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
           set_config('tcp_keepalives_count', '3', false), set_config('idle_session_timeout', '0', false)
"""
# pg_locks shows the two halves of a key.
_HOLDER = """
    SELECT coalesce('the server''s process ' || max(pid) || ' holds it', 'it is free now') FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND (classid::bigint << 32) | objid::bigint = %s
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

_T = TypeVar("_T")


class AdvisoryLock(StrEnum):
    """The foundation's locks. Any other string names a lock of one's own."""

    MIGRATION = "api_server.migration"


def lock_key(lock: str) -> int:
    """Hash a name to the signed 64 bits that PostgreSQL knows a lock by; the same in every process and release."""
    return int.from_bytes(hashlib.sha256(lock.encode()).digest()[:8], "big", signed=True)


class AdvisoryLockError(Exception):
    """A lock cannot be had or kept; the message says why, in a sentence."""


class LockTimeoutError(AdvisoryLockError):
    """Another session held the lock for longer than this one would wait."""


class LockLostError(AdvisoryLockError):
    """The lock was no longer held when it was given back: others may have been at work at the same time."""


class PoolerRefusedError(AdvisoryLockError):
    """The URL leads to a connection pooler, behind which a session's lock belongs to nobody."""


@dataclass(frozen=True, slots=True)
class HeldLock:
    """A lock that is held, and the server's process that holds it, as `pg_locks` and `pg_stat_activity` show it."""

    name: str
    backend_pid: int


@contextmanager
def advisory_lock(lock: str, url: str | None = None, *, timeout: float = 60.0) -> Iterator[HeldLock]:
    """Hold a lock for as long as the context lasts, in code that runs in no event loop.

    `url` is that of the primary, by default `API_SERVER_DATABASE_URL`. Raises LockTimeoutError where another session
    does not give the lock up within `timeout` seconds, PoolerRefusedError, LockLostError at the end where it was lost
    meanwhile, and AdvisoryLockError where the database cannot be used.
    """
    with _without_event_loop(advisory_lock_async(lock, url, timeout=timeout)) as held:
        yield held


@contextmanager
def try_advisory_lock(lock: str, url: str | None = None) -> Iterator[HeldLock | None]:
    """Hold a lock if it is free; where another session holds it, give None at once. Otherwise as `advisory_lock`."""
    with _without_event_loop(try_advisory_lock_async(lock, url)) as held:
        yield held


@asynccontextmanager
async def advisory_lock_async(
    lock: str,
    url: str | None = None,
    *,
    timeout: float = 60.0,  # noqa: ASYNC109 - how long to wait for others, not how long the body may take
) -> AsyncIterator[HeldLock]:
    """Do what `advisory_lock` does; whoever waits leaves the event loop to others."""
    now = asyncio.get_running_loop().time
    deadline = now() + timeout
    async with _session(lock, url) as session:
        # Polled: a session that waits inside pg_advisory_lock() holds a snapshot, for which CREATE INDEX CONCURRENTLY
        # waits in turn.
        while not await session.try_lock():
            if (left := deadline - now()) <= 0:
                raise LockTimeoutError(
                    f"The lock {lock} did not become free within {timeout:g} s; {await session.holder()}."
                )
            await asyncio.sleep(min(_POLL_INTERVAL_S, left))
        async with session.holding() as held:
            yield held


@asynccontextmanager
async def try_advisory_lock_async(lock: str, url: str | None = None) -> AsyncIterator[HeldLock | None]:
    """Do what `try_advisory_lock` does, in an event loop."""
    async with _session(lock, url) as session:
        if await session.try_lock():
            async with session.holding() as held:
                yield held
        else:
            yield None


class _Session:
    """A connection for one lock; closing it gives up whatever it holds."""

    def __init__(self, lock: str, connection: AsyncConnection[tuple[Any, ...]]) -> None:
        self._lock = lock
        self._key = lock_key(lock)
        self._connection = connection

    async def prepare(self) -> None:
        await self._refuse_pooler()
        await self._ask(_PREPARE_SESSION)

    async def _refuse_pooler(self) -> None:
        # A pooler lends its clients server connections that were there before, and invents the process number that
        # each client is told. HAProxy passes the server's own number on.
        told = self._connection.info
        if await self._ask("SELECT pg_backend_pid()") != told.backend_pid:
            raise PoolerRefusedError(
                f"{told.host}:{told.port} is a connection pooler, which would lend the connection that holds the lock "
                f"{self._lock} to others: set API_SERVER_DATABASE_URL to the database server itself."
            )

    async def try_lock(self) -> bool:
        return bool(await self._ask("SELECT pg_try_advisory_lock(%s)", self._key))

    async def holder(self) -> str:
        return str(await self._ask(_HOLDER, self._key))

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[HeldLock]:
        """Unlock at the end, and see to it that this session held the lock until then."""
        try:
            yield HeldLock(self._lock, self._connection.info.backend_pid)
        except BaseException as error:
            try:
                await self._unlock()
            except LockLostError as lost:
                error.add_note(str(lost))
            raise
        await self._unlock()

    async def _unlock(self) -> None:
        try:
            was_held = await self._ask("SELECT pg_advisory_unlock(%s)", self._key)
        except AdvisoryLockError as error:
            raise LockLostError(f"The lock {self._lock} was lost while it was held. {error}") from error
        if not was_held:
            raise LockLostError(f"The lock {self._lock} was lost while it was held: the server knows nothing of it.")

    async def _ask(self, question: LiteralString, *parameters: int) -> object:
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                cursor = await self._connection.execute(question, parameters)
                row = await cursor.fetchone()
        except TimeoutError as error:
            raise AdvisoryLockError(f"The database does not answer about the lock {self._lock}.") from error
        except psycopg.Error as error:
            raise _unusable(self._lock, error) from error
        assert row is not None
        return row[0]


@asynccontextmanager
async def _session(lock: str, url: str | None) -> AsyncIterator[_Session]:
    try:
        connection = await AsyncConnection.connect(_conninfo(url), autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise _unusable(lock, error) from error
    try:
        session = _Session(lock, connection)
        await session.prepare()
        yield session
    finally:
        await connection.close()


def _conninfo(url: str | None) -> str:
    if url is None:
        setting = get_settings().database_url
        if setting is None:
            raise AdvisoryLockError(
                "API_SERVER_DATABASE_URL is not set: an advisory lock needs a URL that leads straight to the primary."
            )
        url = setting.get_secret_value()
    try:
        return conninfo(url, **_CONNECTION)
    except UnreadableUrlError as error:
        raise AdvisoryLockError(str(error)) from error


def _unusable(lock: str, error: psycopg.Error) -> AdvisoryLockError:
    reason = " ".join(str(error).split()).rstrip(".")
    return AdvisoryLockError(f"The database cannot be used for the lock {lock}: {reason}.")


@contextmanager
def _without_event_loop(context: AbstractAsyncContextManager[_T]) -> Iterator[_T]:
    """Enter and leave an asynchronous context from code that runs in no event loop.

    psycopg's blocking connections have no time limit for a server that is frozen; the asynchronous ones do.
    """
    _refuse_event_loop()
    with asyncio.Runner() as runner:
        entered = runner.run(_entered(context))
        try:
            yield entered
        except BaseException:
            runner.run(_left(context, *sys.exc_info()))
            raise
        runner.run(_left(context, None, None, None))


def _refuse_event_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("This would hold up the event loop: use advisory_lock_async or try_advisory_lock_async there.")


async def _entered(context: AbstractAsyncContextManager[_T]) -> _T:
    return await context.__aenter__()


async def _left(context: AbstractAsyncContextManager[Any], *error: Any) -> None:  # noqa: ANN401 - three ways to be none
    await context.__aexit__(*error)
