"""How repositories use the pool: for a bounded time, and with one error for whatever makes it unusable just now."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from throttling_sequencer.core import telemetry
from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB
from throttling_sequencer.infrastructure.db.trouble import DATABASE_ERRORS, in_words, says_unavailable

__all__ = ["says_unavailable", "using_storage"]

# Who comes when no writer has been found for so long, or every host has refused, waits only for as long as it takes to
# notice that there is one.
_LOST_S = 1.0
_NOTICED_S = 0.3

# Longer than from one such call to the next: the search for it does not end in between.
_SEARCHED_S = 10.0


@asynccontextmanager
async def using_storage(timeout_s: float) -> AsyncIterator[None]:
    """Raise StorageUnavailableError where what is done with the pool takes longer than this or finds no usable server.

    While no server takes writes it says so at once. A pool that meets one which takes none (any more), or is about to
    stop, or gone, connects anew next time.
    """
    if DB.pool is None or DB.connector is None:
        raise StorageUnavailableError("no database is configured")
    connector, writer = DB.connector, DB.writer
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + timeout_s

    def heed_refusals() -> None:
        if not limit.expired():
            limit.reschedule(loop.time() if connector.is_refused else ends_at)

    try:
        async with asyncio.timeout_at(ends_at) as limit:
            if connector.is_refused or connector.lost_for_s > _LOST_S:
                connector.look_around(_SEARCHED_S)
                limit.reschedule(min(ends_at, loop.time() + _NOTICED_S))
            with connector.telling(heed_refusals), telemetry.using_database():
                yield
    except DATABASE_ERRORS as error:
        if not says_unavailable(error):
            raise
        await DB.heed(error, writer)
        reason = (connector.trouble if isinstance(error, TimeoutError) else None) or in_words(error)
        raise StorageUnavailableError(reason) from error
