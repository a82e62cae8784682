"""Whether the sequencer's own parts work: the pool, the lane, the request log."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from api_server.readiness_pipeline import ReadinessCheck, ReadinessCheckResult

from throttling_sequencer.application.request_log import RecordGqlRequest
from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB
from throttling_sequencer.infrastructure.db.storage import using_storage
from throttling_sequencer.infrastructure.lane import ProcessLane

_POOL_TIMEOUT_S = 2.5

# Of a role that may not look, the server hides what the standbys are, but not that there are some.
_REPLICATION = """
    SELECT current_setting('synchronous_standby_names') <> ''
            AND current_setting('synchronous_commit') NOT IN ('off', 'local') AS is_synchronous,
        count(*) AS standbys, count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) AS synchronous,
        count(sync_state) AS seen
    FROM pg_stat_replication
"""


class DatabasePoolCheck(ReadinessCheck):
    """Succeeds where a connection of the pool takes writes; it may lead through HAProxy or PgBouncer.

    Has the other hosts asked, too, in the background: the one that is known may have been replaced without a word.
    """

    def __init__(self) -> None:
        super().__init__("database_pool")

    async def _execute(self) -> ReadinessCheckResult:
        if (pool := DB.pool) is None:
            return self.not_applicable("there is no pool in this process")
        if DB.connector is not None:
            DB.connector.look_around_now_and_then()
        try:
            async with using_storage(_POOL_TIMEOUT_S), _connection(pool) as connection:
                is_read_only = await connection.fetchval("SHOW transaction_read_only") == "on"
                replication = {} if is_read_only else await _replication(connection)
        except StorageUnavailableError as error:
            return self.failed("the pool has no connection that can be used", {"error": error.reason})
        connections = {"connections": pool.get_size(), "idle": pool.get_idle_size(), "most": pool.get_max_size()}
        details = {**connections, **_writer(), **replication}
        if is_read_only:
            return self.failed("the pool leads to a database that is read-only", details)
        if replication.get("is_synchronous") and 0 in {replication["standbys"], replication["synchronous_standbys"]}:
            return self.warning("takes writes, whose commits wait: no standby is there to confirm them", details)
        return self.success("takes writes", details)


@asynccontextmanager
async def _connection(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    connection = await DB.acquire(_POOL_TIMEOUT_S)
    try:
        yield connection
    finally:
        await pool.release(connection)


def _writer() -> dict[str, Any]:
    if (writer := DB.writer) is None:
        return {}
    return {"writer": f"{writer.host}:{writer.port}", "timeline": writer.timeline}


async def _replication(connection: asyncpg.Connection) -> dict[str, Any]:
    """Say whether a commit waits for standbys, and how many there are; nothing where that may not be known."""
    try:
        found = await connection.fetchrow(_REPLICATION)
    except asyncpg.PostgresError:
        # The connection works or not, which is not for this to say: who uses it next finds out.
        return {}
    synchronous = found["synchronous"] if found["seen"] == found["standbys"] else None
    return {
        "is_synchronous": found["is_synchronous"],
        "standbys": found["standbys"],
        "synchronous_standbys": synchronous,
    }


class LaneCheck(ReadinessCheck):
    """Succeeds where every planning process lives; while some do, plans are still made."""

    def __init__(self, lane: ProcessLane) -> None:
        super().__init__("lane")
        self._lane = lane

    async def _execute(self) -> ReadinessCheckResult:
        lane = self._lane
        if not lane.is_started:
            return self.not_applicable("there are no planning processes in this process")
        details = {"processes": lane.workers, "living": lane.living, "waiting": lane.waiting}
        message = f"{lane.living} of {lane.workers} planning processes live"
        if lane.living == lane.workers:
            return self.success(message, details)
        return self.warning(message, details) if lane.living else self.failed(message, details)


class RequestLogCheck(ReadinessCheck):
    """Succeeds where requests are written to their storage."""

    def __init__(self, recorder: RecordGqlRequest, *, is_in_memory: bool) -> None:
        super().__init__("request_log")
        self._recorder = recorder
        self._is_in_memory = is_in_memory

    async def _execute(self) -> ReadinessCheckResult:
        if self._is_in_memory:
            return self.not_applicable("it is kept in this process's memory")
        if not self._recorder.is_writing:
            return self.not_applicable("this process writes no requests")
        details = {"waiting": self._recorder.waiting, "dropped": self._recorder.dropped}
        if self._recorder.is_interrupted:
            return self.failed("requests wait until the database takes them", details)
        return self.success("requests are written", details)
