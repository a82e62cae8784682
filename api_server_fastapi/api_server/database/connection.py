"""The database of a process: its engine, made once and closed once, and the sessions that requests and others borrow.

    init_db("postgresql://…")
    async with borrow_db_session() as session:
        session.add(order)
        await session.commit()
    await dispose_db()

A session gives up what is not committed, and tells a database that is away from a mistake of who asks it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import sqlalchemy
from psycopg import AsyncConnection, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from sqlmodel.ext.asyncio.session import AsyncSession

from api_server.database.conninfo import UnreadableUrlError, conninfo
from api_server.exceptions import DatabaseUnavailableError, StartError
from api_server.settings import get_settings
from api_server.telemetry import Tracer

_DIALECT = "postgresql+psycopg://"
_POOL_TIMEOUT_S = 2
_CANCEL_TIMEOUT_S = 0.5
_TIME_LIMIT = "time limit"

# Not through a pooler, which would go on to lend a connection with this limit to others; it tells its clients numbers
# of server processes that it invents.
_LIMIT_STATEMENTS = """
    SELECT CASE WHEN pg_backend_pid() = %s THEN set_config('statement_timeout', %s, false) END
"""


tracer = Tracer("api_server")


class _Connection(AsyncConnection[tuple[object, ...]]):
    """Gives up on a server that does not answer, when whoever waits for it does."""

    # psycopg would ask such a server for five seconds to cancel what it does, and wait for as long again. A test with a
    # frozen server sees to it that this is what psycopg calls.
    async def _try_cancel(self, *, timeout: float = _CANCEL_TIMEOUT_S) -> None:  # noqa: ARG002, ASYNC109 - psycopg's signature
        try:
            await self.cancel_safe(timeout=_CANCEL_TIMEOUT_S)
        except psycopg.Error:
            self.pgconn.finish()


class _Process:
    """What this process has in use."""

    engine: AsyncEngine | None = None
    url: str | None = None


def init_db(url: str | None = None) -> AsyncEngine:
    """Make the engine of this process, which connects on first use; called again, return the same.

    `url` is that of the primary, by default `API_SERVER_DATABASE_URL`. Raises StartError where there is none, and
    RuntimeError where another database is in use.
    """
    if url is None:
        setting = get_settings().database_url
        if setting is None:
            raise StartError("No database is configured: set API_SERVER_DATABASE_URL to the URL of the primary.")
        url = setting.get_secret_value()
    if _Process.engine is None:
        _Process.engine, _Process.url = create_engine(url), url
    elif _Process.url != url:
        raise RuntimeError("this process uses another database already: call dispose_db() first")
    return _Process.engine


async def dispose_db() -> None:
    """Close the connections of this process's engine, if it has one, and forget it."""
    engine, _Process.engine, _Process.url = _Process.engine, None, None
    if engine is not None:
        await engine.dispose()


async def renew_connections() -> None:
    """Let go of the connections that nobody uses just now: the next to be used is a new one."""
    if _Process.engine is not None:
        await _Process.engine.dispose()


def get_engine() -> AsyncEngine:
    """Return this process's engine. Raises DatabaseUnavailableError before `init_db`, and after `dispose_db`."""
    if _Process.engine is None:
        raise DatabaseUnavailableError("no database is in use: init_db() comes first")
    return _Process.engine


async def get_db_session() -> AsyncIterator[AsyncSession]:
    """Give an endpoint a session, by `Depends(get_db_session)`. What the endpoint does not commit is rolled back."""
    async with borrow_db_session() as session:
        yield session


@asynccontextmanager
async def borrow_db_session(
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - of all that is done in the session
) -> AsyncIterator[AsyncSession]:
    """Lend a session to whoever has no request; what is not committed is rolled back.

    Raises DatabaseUnavailableError where the database cannot be reached or used just now, or the session takes longer
    than `timeout` seconds.
    """
    engine = get_engine()
    limit = asyncio.timeout(timeout)
    try:
        with tracer.span("database.session", **{"db.system.name": "postgresql"}):
            async with limit, AsyncSession(engine, expire_on_commit=False) as session:
                session.info[_TIME_LIMIT] = limit
                yield session
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise DatabaseUnavailableError("no answer in time") from error
    except UnreadableUrlError as error:
        raise DatabaseUnavailableError(str(error)) from error
    except (NoConnectionError, psycopg.Error, DBAPIError) as error:
        if (reason := _unavailability(error)) is None:
            raise
        if isinstance(_original(error), psycopg.errors.ReadOnlySqlTransaction):
            # It was the primary. The pool's other connections lead there too.
            await engine.dispose()
        raise DatabaseUnavailableError(reason) from error


def end_time_limit(session: AsyncSession) -> None:
    """Let what follows take as long as it takes: it is committed, and nobody should be told that it is not."""
    limit = session.info.get(_TIME_LIMIT)
    if isinstance(limit, asyncio.Timeout):
        limit.reschedule(None)


def create_engine(url: str) -> AsyncEngine:
    """Make an engine for a `postgresql://` or `postgresql+psycopg://` URL; it connects on first use.

    The URL is libpq's, so that it may name several hosts. A statement runs for
    `API_SERVER_DATABASE_STATEMENT_TIMEOUT_MS` at most.
    """
    settings = get_settings()

    async def connect() -> _Connection:
        # No statement is prepared: through a pooler, the next one may meet another connection of the server's.
        connection = await _Connection.connect(_readable(url), prepare_threshold=None)
        try:
            limit = str(settings.database_statement_timeout_ms)
            await connection.execute(_LIMIT_STATEMENTS, (connection.info.backend_pid, limit))
            await connection.commit()
        except BaseException:
            await connection.close()
            raise
        return connection

    return create_async_engine(
        _DIALECT,
        async_creator=connect,
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_pre_ping=True,
        pool_timeout=_POOL_TIMEOUT_S,
        # Whatever the database's default is: who writes by version is told of a conflict, not of a serialization.
        isolation_level="READ COMMITTED",
        # Errors and the log would show what somebody stores.
        hide_parameters=True,
    )


def create_sync_engine(url: str, **parameters: str | int) -> sqlalchemy.Engine:
    """Make an engine for commands and migrations: it waits where it is called, and keeps no connection.

    `parameters` are libpq's, for what the URL does not say.
    """

    def connect() -> Connection[tuple[object, ...]]:
        return Connection.connect(_readable(url, **parameters))

    return sqlalchemy.create_engine(_DIALECT, creator=connect, poolclass=NullPool, hide_parameters=True)


def _readable(url: str, **parameters: str | int) -> str:
    return conninfo(url, **{"application_name": "api_server", **parameters})


def _original(error: Exception) -> BaseException | None:
    return error.orig if isinstance(error, DBAPIError) else error


def _unavailability(error: Exception) -> str | None:
    """Say why an error is about the database, and not about what it was asked; None where it is not."""
    original = _original(error)
    match original:
        case NoConnectionError():
            return "every connection of the pool is in use"
        case psycopg.errors.UndefinedTable() | psycopg.errors.InvalidSchemaName() | psycopg.errors.UndefinedColumn():
            return "its tables are not those of this release: api-server-cli db upgrade"
        case (
            psycopg.OperationalError()
            | psycopg.InterfaceError()
            # A transaction that is read-only, or ended by a time limit of the server's; a server in trouble.
            | psycopg.InternalError()
            | psycopg.errors.InsufficientPrivilege()
        ):
            return " ".join(f"{type(original).__name__}: {original}".split())
        case _:
            # What the driver says of a connection that is lost may be anything.
            is_lost = isinstance(error, DBAPIError) and error.connection_invalidated
            return f"{type(original).__name__}: the connection was lost" if is_lost else None
