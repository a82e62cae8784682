"""A transaction on a connection of the pool that always gives the connection back, and says what became of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg

from throttling_sequencer.core import telemetry
from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB
from throttling_sequencer.infrastructure.db.retrying import commit_limit_s
from throttling_sequencer.infrastructure.db.trouble import (
    DATABASE_ERRORS,
    CommitInDoubtError,
    in_words,
    was_rolled_back,
)

__all__ = ["CommitInDoubtError", "unit_of_work"]

# For what is done with a connection when the work is over: it is the time by which a unit of work may be late.
_GIVE_BACK_S = 0.2

# A server that gives up waiting for its standbys says so by a warning, and then that it has committed.
_WARNINGS_OF_DOUBT = ("01000", "57P01")


@asynccontextmanager
async def unit_of_work(timeout_s: float) -> AsyncIterator[asyncpg.Connection]:
    """Give a connection in a transaction of its own, which is committed at the end, all within this time.

    Raises CommitInDoubtError where the COMMIT was sent and may or may not be kept; after any other error nothing is.
    """
    pool = DB.pool
    if pool is None:
        raise StorageUnavailableError("no database is configured")
    with telemetry.transaction():
        async with _transaction(pool, timeout_s) as connection:
            yield connection


@asynccontextmanager
async def _transaction(pool: asyncpg.Pool, timeout_s: float) -> AsyncIterator[asyncpg.Connection]:
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + timeout_s
    with telemetry.acquiring():
        connection = await DB.acquire(timeout_s)
    writer = DB.writer
    try:
        with DB.watching():
            async with asyncio.timeout_at(ends_at):
                await connection.execute("BEGIN")
                yield connection
            with telemetry.committing():
                await _commit(connection, min(commit_limit_s.get(), ends_at - loop.time()))
    except Exception as error:
        await _roll_back(connection)
        await DB.heed(error, writer)
        raise
    except BaseException:
        # Whoever is cancelled has no time to ask the server for anything.
        _terminate(connection)
        raise
    finally:
        await _give_back(pool, connection)


async def _commit(connection: asyncpg.Connection, timeout_s: float) -> None:
    if timeout_s <= 0:
        raise TimeoutError
    warnings: list[asyncpg.PostgresLogMessage] = []
    listener = _Listener(warnings)
    connection.add_log_listener(listener)
    try:
        answer = await connection.execute("COMMIT", timeout=timeout_s)
    except DATABASE_ERRORS as error:
        if was_rolled_back(error):
            raise
        raise CommitInDoubtError(in_words(error)) from error
    finally:
        with suppress(asyncpg.InterfaceError):
            connection.remove_log_listener(listener)
    if answer != "COMMIT":
        raise asyncpg.InFailedSQLTransactionError("a statement had failed: the transaction was rolled back")
    if said := [warning.message for warning in warnings if warning.sqlstate in _WARNINGS_OF_DOUBT]:
        raise CommitInDoubtError(said[0])


class _Listener:
    """Keeps the warnings that a server sends."""

    def __init__(self, warnings: list[asyncpg.PostgresLogMessage]) -> None:
        self._warnings = warnings

    def __call__(self, _: asyncpg.Connection, message: asyncpg.PostgresLogMessage) -> None:
        if message.severity_en == "WARNING":
            self._warnings.append(message)


async def _roll_back(connection: asyncpg.Connection) -> None:
    """End the transaction, whatever became of it; a connection that cannot say so in a moment is cut off.

    A statement that is still at work is cancelled first: a server does not notice that nobody waits for it.
    """
    try:
        if not connection.is_closed() and connection.is_in_transaction():
            await connection.execute("ROLLBACK", timeout=_GIVE_BACK_S)
    except (*DATABASE_ERRORS, asyncio.CancelledError) as error:
        _terminate(connection)
        if isinstance(error, asyncio.CancelledError):
            raise


async def _give_back(pool: asyncpg.Pool, connection: asyncpg.Connection) -> None:
    """Give a connection back, to the end, also where whoever does it is cancelled meanwhile."""
    giving_back = asyncio.create_task(_given_back(pool, connection), name="giving a connection back")
    try:
        await asyncio.wait({giving_back})
    except asyncio.CancelledError:
        _terminate(connection)
        await asyncio.wait({giving_back})
        raise


async def _given_back(pool: asyncpg.Pool, connection: asyncpg.Connection) -> None:
    try:
        await pool.release(connection, timeout=_GIVE_BACK_S)
    except DATABASE_ERRORS:
        # The pool has cut it off, and has its place back. What was committed stays, whatever comes after it.
        _terminate(connection)


def _terminate(connection: asyncpg.Connection) -> None:
    # One that was given back leads nowhere.
    with suppress(asyncpg.InterfaceError):
        connection.terminate()
