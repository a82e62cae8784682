"""The request log in PostgreSQL."""

from collections.abc import Sequence
from uuid import UUID

from throttling_sequencer.core import telemetry
from throttling_sequencer.domain.request_log import GqlRequest, Outcome
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.tables import GqlRequestInfo
from throttling_sequencer.infrastructure.db.storage import using_storage

_DELETED_AT_ONCE = 5_000

# One statement, and one array a column: neither the event loop nor the server sees single rows. What is there already
# is written once more, as it is: a commit that writes nothing waits for no standby.
_ADD = """
    INSERT INTO throttling_sequencer.gql_request_info
        (operation_id, request_id, operation_name, user_id, unix_time, duration_ms, outcome)
    SELECT DISTINCT ON (operation_id)
        operation_id, request_id, operation_name, user_id, unix_time, duration_ms, outcome
    FROM unnest(
        {}::uuid[], {}::text[], {}::text[], {}::text[], {}::double precision[], {}::double precision[], {}::text[]
    ) WITH ORDINALITY
        AS given (operation_id, request_id, operation_name, user_id, unix_time, duration_ms, outcome, place)
    ORDER BY operation_id, place
    ON CONFLICT (operation_id) DO UPDATE SET operation_id = excluded.operation_id
"""

# Several processes delete at the same time: what one has taken, others leave to it.
_DELETE = """
    WITH old AS (
        SELECT operation_id FROM throttling_sequencer.gql_request_info
        WHERE unix_time < {} ORDER BY unix_time LIMIT {} FOR UPDATE SKIP LOCKED
    ), deleted AS (
        DELETE FROM throttling_sequencer.gql_request_info
        WHERE operation_id IN (SELECT operation_id FROM old) RETURNING 1
    )
    SELECT count(*) AS number FROM deleted
"""


class PiccoloGqlRequestRepository:
    """Keeps the request log in `gql_request_info`; a statement may take `timeout_s`, waiting for the pool included."""

    def __init__(self, timeout_s: float = 3.0) -> None:
        self._timeout_s = timeout_s

    async def add(self, requests: Sequence[GqlRequest]) -> None:
        if not requests:
            return
        columns = map(list, zip(*map(_row, requests), strict=True))
        with telemetry.writing_request_log(len(requests)):
            async with using_storage(self._timeout_s):
                await GqlRequestInfo.raw(_ADD, *columns)

    async def newest(self, user_id: str | None, limit: int, before: UUID | None = None) -> list[GqlRequest]:
        table = GqlRequestInfo
        query = table.select().order_by(table.operation_id, ascending=False)
        if user_id is not None:
            query = query.where(table.user_id == user_id)
        if before is not None:
            query = query.where(table.operation_id < before)
        async with using_storage(self._timeout_s):
            rows = await query.limit(limit)
        return [GqlRequest(**{**row, "outcome": Outcome(row["outcome"])}) for row in rows]

    async def delete_older_than(self, unix_time: float) -> int:
        total = 0
        while number := await self._delete_some(unix_time):
            total += number
        return total

    async def _delete_some(self, unix_time: float) -> int:
        async with using_storage(self._timeout_s):
            rows = await GqlRequestInfo.raw(_DELETE, unix_time, _DELETED_AT_ONCE)
        return int(rows[0]["number"])


def _row(request: GqlRequest) -> tuple[UUID, str, str | None, str, float, float, str]:
    return (
        request.operation_id,
        request.request_id,
        request.operation_name,
        request.user_id,
        request.unix_time,
        request.duration_ms,
        request.outcome,
    )
