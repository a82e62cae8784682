"""How repositories use the pool: for a bounded time, and with one error for whatever makes it unusable just now."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB

_READ_ONLY = "25006"

# Classes of SQLSTATE that are about the values given: data exception, integrity constraint violation. Whatever else a
# server says, of a password, a missing database or table, a role's rights, may be mended while the values wait.
_ABOUT_THE_VALUES = ("22", "23")


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
    """Whether an error of asyncpg or of a socket is about the storage, and not about the values that it was given."""
    if isinstance(error, asyncpg.PostgresError):
        return not _sqlstate(error).startswith(_ABOUT_THE_VALUES)
    # What asyncpg says of values that it was given is a ValueError too.
    return not isinstance(error, ValueError)


def _sqlstate(error: Exception) -> str:
    return getattr(error, "sqlstate", None) or ""
