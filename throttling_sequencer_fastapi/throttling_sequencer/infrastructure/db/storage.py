"""How repositories use the pool: for a bounded time, and with one error for whatever makes it unusable just now."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB

_READ_ONLY = "25006"

# Classes of SQLSTATE: connection exception, insufficient resources, operator intervention.
_UNAVAILABLE_CLASSES = ("08", "53", "57")

# The last three: the schema, table or column is not there, because its migration is not applied yet.
_UNAVAILABLE = frozenset({_READ_ONLY, "3F000", "42P01", "42703"})


@asynccontextmanager
async def using_storage(timeout_s: float) -> AsyncIterator[None]:
    """Raise StorageUnavailableError where what is done with the pool takes longer than this or finds no usable server.

    A pool that meets a server which takes no writes, as one does that was the primary, connects anew next time.
    """
    pool = DB.pool
    if pool is None:
        raise StorageUnavailableError("no database is configured")
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise StorageUnavailableError("no answer in time") from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if not says_unavailable(error):
            raise
        if _sqlstate(error) == _READ_ONLY:
            await pool.expire_connections()
        raise StorageUnavailableError(f"{type(error).__name__}: {error}") from error


def says_unavailable(error: Exception) -> bool:
    """Whether an error of asyncpg or of a socket is about the server and this moment, and not about what was asked."""
    if isinstance(error, asyncpg.PostgresError):
        return _sqlstate(error) in _UNAVAILABLE or _sqlstate(error).startswith(_UNAVAILABLE_CLASSES)
    # What asyncpg says of a configuration that it cannot use is a ValueError too.
    return not isinstance(error, ValueError)


def _sqlstate(error: Exception) -> str:
    return getattr(error, "sqlstate", None) or ""
