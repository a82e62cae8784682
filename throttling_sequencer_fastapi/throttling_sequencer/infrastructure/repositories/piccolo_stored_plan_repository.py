"""Stored plans in PostgreSQL."""

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

import asyncpg

from throttling_sequencer.application.plan_requests import request_of, request_text
from throttling_sequencer.application.turns import in_turns
from throttling_sequencer.domain.errors import OutcomeUnknownError, StorageUnavailableError
from throttling_sequencer.domain.navigation import ScoreParts
from throttling_sequencer.domain.stored_plan import StoredPlan, StoredPlanPage, StoredUnitPlan
from throttling_sequencer.infrastructure.db.retrying import retried
from throttling_sequencer.infrastructure.db.unit_of_work import unit_of_work

T = TypeVar("T")

# A write also where there is nothing to add: only a commit that wrote something waits for the standby, and what is
# returned here is acknowledged.
_ADD = """
    INSERT INTO throttling_sequencer.plan (
        id, owner_id, key, request_hash, request, targets, throttles, score_parts, lower_bounds, final_speeds,
        distances_covered, strategy, seed, size, attempts, created_at
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 1, $15)
    ON CONFLICT (owner_id, key) DO UPDATE SET attempts = plan.attempts + 1
    RETURNING id, attempts
"""
_FIND_AGAIN = """
    UPDATE throttling_sequencer.plan SET attempts = attempts + 1 WHERE owner_id = $1 AND key = $2 RETURNING *
"""
_GET_ANYBODYS = "SELECT * FROM throttling_sequencer.plan WHERE id = $1"
_GET = _GET_ANYBODYS + " AND owner_id = $2"

# The sizes of up to one more than a page holds, then the plans that fit, each with how many there are of those. Two
# statements: a plan for an owner who may be NULL would use the index for none.
_LISTED = """
    WITH listed AS (
        SELECT id, size FROM throttling_sequencer.plan WHERE ($1::uuid IS NULL OR id < $1)
"""
_OF_OWNER = " AND owner_id = $4"
_FITTING = """
        ORDER BY id DESC LIMIT $2 + 1
    ), measured AS (
        SELECT id, row_number() OVER newest_first AS place, sum(size) OVER newest_first AS total,
            count(*) OVER () AS found
        FROM listed WINDOW newest_first AS (ORDER BY id DESC)
    )
    SELECT plan.*, found FROM measured JOIN throttling_sequencer.plan USING (id)
    WHERE place = 1 OR (place <= $2 AND total <= $3) ORDER BY id DESC
"""
_NEWEST_ANYBODYS = _LISTED + _FITTING
_NEWEST = _LISTED + _OF_OWNER + _FITTING


class PiccoloStoredPlanRepository:
    """Keeps plans in the table `plan`, each method in a transaction that is tried again until its time is over."""

    async def add(self, plan: StoredPlan, *, within_s: float) -> StoredPlan:
        row = await _row(plan)

        async def attempt(seconds: float) -> asyncpg.Record:
            async with unit_of_work(seconds) as connection:
                written = await connection.fetchrow(_ADD, *row)
                if written["id"] == plan.plan_id:
                    return written
                return await connection.fetchrow(_GET_ANYBODYS, written["id"])

        kept = await retried(attempt, within_s=within_s)
        if kept["id"] == plan.plan_id:
            return replace(plan, attempts=kept["attempts"])
        return await _plan(kept)

    async def find_again(self, owner_id: str, key: str, *, within_s: float) -> StoredPlan | None:
        async def attempt(seconds: float) -> asyncpg.Record | None:
            async with unit_of_work(seconds) as connection:
                return await connection.fetchrow(_FIND_AGAIN, owner_id, key)

        found = await retried(attempt, within_s=within_s)
        return None if found is None else await _plan(found)

    async def get(self, owner_id: str | None, plan_id: UUID, *, within_s: float) -> StoredPlan | None:
        async def attempt(seconds: float) -> asyncpg.Record | None:
            async with unit_of_work(seconds) as connection:
                if owner_id is None:
                    return await connection.fetchrow(_GET_ANYBODYS, plan_id)
                return await connection.fetchrow(_GET, plan_id, owner_id)

        found = await _read(attempt, within_s)
        return None if found is None else await _plan(found)

    async def newest(
        self, owner_id: str | None, limit: int, before: UUID | None = None, *, most_numbers: int, within_s: float
    ) -> StoredPlanPage:
        page = (before, limit, most_numbers)
        query = (_NEWEST_ANYBODYS, *page) if owner_id is None else (_NEWEST, *page, owner_id)

        async def attempt(seconds: float) -> list[asyncpg.Record]:
            async with unit_of_work(seconds) as connection:
                rows: list[asyncpg.Record] = await connection.fetch(*query)
                return rows

        rows = await _read(attempt, within_s)
        return StoredPlanPage(
            [await _plan(row) for row in rows], has_next=any(row["found"] > len(rows) for row in rows)
        )


async def _read(attempt: Callable[[float], Awaitable[T]], within_s: float) -> T:
    """Try a transaction that only reads: nobody asks what became of it."""
    try:
        return await retried(attempt, within_s=within_s)
    except OutcomeUnknownError as error:
        raise StorageUnavailableError(error.reason) from error


async def _row(plan: StoredPlan) -> tuple[object, ...]:
    """Return the values of a row as `_ADD` names them, of the units an array a column."""
    parts = [unit.score_parts for unit in plan.units]
    throttles = [text async for text in in_turns(json.dumps(unit.throttles) for unit in plan.units)]
    return (
        plan.plan_id,
        plan.owner_id,
        plan.key,
        plan.request_hash,
        await request_text(plan.request),
        [unit.target for unit in plan.units],
        f"[{','.join(throttles)}]",
        [[getattr(part, name) for part in parts] for name in ("distance", "speed", "length", "nonzero")],
        [unit.lower_bound for unit in plan.units],
        [unit.final_speed for unit in plan.units],
        [unit.distance_covered for unit in plan.units],
        plan.strategy,
        plan.seed,
        plan.size,
        plan.created_at,
    )


async def _plan(row: asyncpg.Record) -> StoredPlan:
    return StoredPlan(
        plan_id=row["id"],
        owner_id=row["owner_id"],
        key=row["key"],
        request_hash=row["request_hash"],
        request=await request_of(row["request"]),
        strategy=row["strategy"],
        seed=row["seed"],
        units=tuple([unit async for unit in in_turns(_units(row))]),
        created_at=row["created_at"],
        attempts=row["attempts"],
    )


def _units(row: asyncpg.Record) -> Iterator[StoredUnitPlan]:
    columns = zip(
        row["targets"],
        json.loads(row["throttles"]),
        zip(*row["score_parts"], strict=True),
        row["lower_bounds"],
        row["final_speeds"],
        row["distances_covered"],
        strict=True,
    )
    for place, (target, throttles, parts, lower_bound, final_speed, distance_covered) in enumerate(columns):
        yield StoredUnitPlan(
            unit=place,
            target=target,
            throttles=tuple(throttles),
            score_parts=ScoreParts(*parts),
            lower_bound=lower_bound,
            final_speed=final_speed,
            distance_covered=distance_covered,
        )
