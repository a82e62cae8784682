"""A connection is given back to the end, whoever is cancelled meanwhile."""

import asyncio
import gc
from typing import Any

import pytest
from throttling_sequencer.infrastructure.db.unit_of_work import _give_back


class Connection:
    """A connection that ends when it is told to."""

    def __init__(self) -> None:
        self.is_ended = asyncio.Event()

    def terminate(self) -> None:
        self.is_ended.set()


class Pool:
    """A pool that, as asyncpg's, goes on taking a connection back when nobody waits for that any more."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()

    async def release(self, connection: Connection, *, timeout: float) -> None:  # noqa: ASYNC109 - asyncpg's signature
        self.is_asked.set()
        await asyncio.shield(self._reset(connection))

    async def _reset(self, connection: Connection) -> None:
        await connection.is_ended.wait()
        raise ConnectionResetError("it was ended")


async def test_who_is_cancelled_leaves_no_error_that_nobody_hears() -> None:
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    pool: Any = Pool()
    connection: Any = Connection()
    giving = asyncio.create_task(_give_back(pool, connection))
    await pool.is_asked.wait()
    giving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await giving
    assert connection.is_ended.is_set()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()
    await asyncio.sleep(0)
    assert unheard == []
