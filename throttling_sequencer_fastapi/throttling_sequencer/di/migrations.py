"""Migrations at the start of a service, where `PICCOLO_DB_RUN_MIGRATIONS` asks for them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import structlog
from api_server.database.advisory_lock import AdvisoryLockError, PoolerRefusedError
from api_server.database.migration_backend import MigrationBackend, MigrationError, upgrade_all
from api_server.exceptions import DatabaseUnavailableError, StartError

from throttling_sequencer.domain.errors import StorageUnavailableError

_RETRY_S = 1.0

# A start does not wait for longer while somebody else migrates: the service plans meanwhile.
_LOCK_PATIENCE_S = 5.0

log = structlog.get_logger("throttling_sequencer.di")


@asynccontextmanager
async def migrating(backends: Sequence[MigrationBackend], url: str) -> AsyncIterator[None]:
    """Apply what is pending before the context begins or, where the database is away, as soon as it is back.

    Raises StartError where a migration itself fails, or the URL leads to a pooler.
    """
    if await _upgraded(backends, url):
        yield
        return
    task = asyncio.create_task(_upgrade_when_possible(backends, url), name="migrations")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _upgrade_when_possible(backends: Sequence[MigrationBackend], url: str) -> None:
    try:
        while True:
            await asyncio.sleep(_RETRY_S)
            if await _upgraded(backends, url, is_first=False):
                return
    except StartError as error:
        log.error("migrations failed", reason=str(error))  # noqa: TRY400 - the sentence says it all


async def _upgraded(backends: Sequence[MigrationBackend], url: str, *, is_first: bool = True) -> bool:
    try:
        await upgrade_all(backends, url, lock_timeout=_LOCK_PATIENCE_S)
    except PoolerRefusedError as error:
        raise StartError(str(error)) from error
    except AdvisoryLockError as error:
        reason = str(error)
    except MigrationError as error:
        if not isinstance(error.__cause__, DatabaseUnavailableError | StorageUnavailableError):
            raise StartError(str(error)) from error
        reason = error.__cause__.reason
    else:
        return True
    if is_first:
        log.warning("migrations wait for the database", reason=reason)
    return False
