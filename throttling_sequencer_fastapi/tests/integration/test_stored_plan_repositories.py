"""Stored plans keep their promises, wherever they are kept."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from api_server.local.postgres import PostgresAddress
from api_server.testing import fresh_database
from piccolo_database import pool_on
from plan_cases import large_plan, stored_plan, unit, unit_plan
from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.domain.game import GameState
from throttling_sequencer.domain.navigation import ScoreParts
from throttling_sequencer.domain.stored_plan import AsyncStoredPlanRepository, PlanRequest, StoredPlan
from throttling_sequencer.infrastructure.db.piccolo_migrations import PiccoloMigrations
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.tables import Plan
from throttling_sequencer.infrastructure.repositories import piccolo_stored_plan_repository
from throttling_sequencer.infrastructure.repositories.in_memory_stored_plan_repository import (
    InMemoryStoredPlanRepository,
)
from throttling_sequencer.infrastructure.repositories.piccolo_stored_plan_repository import PiccoloStoredPlanRepository

WITHIN_S = 10.0
MUCH = 10**9


@pytest.fixture(scope="module")
def database(postgres: PostgresAddress) -> Iterator[PostgresAddress]:
    with fresh_database(postgres) as address:
        asyncio.run(PiccoloMigrations(address.url).upgrade())
        yield address


@pytest.fixture
def empty_database(postgres: PostgresAddress) -> Iterator[PostgresAddress]:
    with fresh_database(postgres) as address:
        yield address


@pytest.fixture
async def piccolo_repository(database: PostgresAddress) -> AsyncIterator[PiccoloStoredPlanRepository]:
    async with pool_on(database):
        await DB.run_ddl("TRUNCATE throttling_sequencer.plan")
        yield PiccoloStoredPlanRepository()


@pytest.fixture
def in_memory_repository() -> InMemoryStoredPlanRepository:
    return InMemoryStoredPlanRepository()


@pytest.fixture(params=["piccolo_repository", "in_memory_repository"])
def repository(request: pytest.FixtureRequest) -> AsyncStoredPlanRepository:
    repository: AsyncStoredPlanRepository = request.getfixturevalue(request.param)
    return repository


async def add(repository: AsyncStoredPlanRepository, *plans: StoredPlan) -> list[StoredPlan]:
    return [await repository.add(plan, within_s=WITHIN_S) for plan in plans]


async def get(repository: AsyncStoredPlanRepository, plan: StoredPlan) -> StoredPlan | None:
    return await repository.get(plan.owner_id, plan.plan_id, within_s=WITHIN_S)


async def again(repository: AsyncStoredPlanRepository, owner_id: str, key: str) -> StoredPlan | None:
    return await repository.find_again(owner_id, key, within_s=WITHIN_S)


async def newest(
    repository: AsyncStoredPlanRepository,
    owner_id: str | None,
    limit: int,
    before: UUID | None = None,
    most_numbers: int = MUCH,
) -> tuple[list[int], bool]:
    page = await repository.newest(owner_id, limit, before, most_numbers=most_numbers, within_s=WITHIN_S)
    return [plan.plan_id.int for plan in page.plans], page.has_next


PLANS = {
    "plain": stored_plan(1),
    "of several units": stored_plan(
        1,
        units=(
            unit_plan(0, (1,), lower_bound=None),
            unit_plan(1, tuple(range(300)), target=2, lower_bound=0.0),
            unit_plan(2, (0, -5, 1_000_000), target=1),
        ),
        request=PlanRequest(
            game_state=GameState((unit(), unit(1.0), unit(2.0)), (unit(3.0), unit(4.0), unit(5.0))),
            strategy="random",
            budget_ms=70,
            seed=2**31 - 1,
            targets=(0, 2, 1),
        ),
    ),
    "of numbers that are hard to write": stored_plan(
        1,
        seed=None,
        units=(
            unit_plan(
                score_parts=ScoreParts(5e-324, 0.1 + 0.2, 1.7976931348623157e308, 1e-17),
                lower_bound=-1e-9,
                final_speed=-0.1,
                distance_covered=1 / 3,
            ),
        ),
        request=PlanRequest(
            game_state=GameState((unit(5e-324, 0.1 + 0.2, -1e9, 1e9, 1 - 2**-53),), (unit(-1e-300, 1e9),))
        ),
    ),
    "of a whole second": stored_plan(1, created_at=datetime(2026, 1, 1, tzinfo=UTC)),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
async def test_what_is_added_is_found_as_it_was(repository: AsyncStoredPlanRepository, plan: StoredPlan) -> None:
    assert await add(repository, plan) == [plan]
    assert await get(repository, plan) == plan
    assert await again(repository, plan.owner_id, plan.key) == replace(plan, attempts=2)


async def test_a_negative_zero_of_a_plan_stays_one(repository: AsyncStoredPlanRepository) -> None:
    plan = stored_plan(1, units=(unit_plan(final_speed=-0.0),))
    await add(repository, plan)
    found = await get(repository, plan)
    assert found is not None
    assert math.copysign(1, found.units[0].final_speed) == -1


async def test_of_two_plans_under_one_key_the_first_is_kept_and_returned(repository: AsyncStoredPlanRepository) -> None:
    first, second = stored_plan(1, key="k"), stored_plan(2, key="k", units=(unit_plan(throttles=(1, 2)),))
    assert await add(repository, first, second) == [first, replace(first, attempts=2)]
    assert await get(repository, second) is None
    assert await newest(repository, "ann", 10) == ([1], False)


async def test_adding_the_same_plan_again_counts_it(repository: AsyncStoredPlanRepository) -> None:
    plan = stored_plan(1)
    assert [kept.attempts for kept in await add(repository, plan, plan, plan)] == [1, 2, 3]
    found = await get(repository, plan)
    assert found == replace(plan, attempts=3)


async def test_finding_a_plan_again_counts_it_and_reading_does_not(repository: AsyncStoredPlanRepository) -> None:
    plan = stored_plan(1)
    await add(repository, plan)
    await get(repository, plan)
    await newest(repository, "ann", 10)
    assert [await again(repository, "ann", plan.key) for _ in range(2)] == [
        replace(plan, attempts=2),
        replace(plan, attempts=3),
    ]


async def test_a_key_that_nobody_used_finds_nothing(repository: AsyncStoredPlanRepository) -> None:
    await add(repository, stored_plan(1))
    assert await again(repository, "ann", "another") is None
    assert await again(repository, "ann", "KEY-1") is None


async def test_the_keys_of_each_owner_are_their_own(repository: AsyncStoredPlanRepository) -> None:
    plans = [stored_plan(1, "ann", key="k"), stored_plan(2, "bob", key="k"), stored_plan(3, "Ann", key="k")]
    assert await add(repository, *plans) == plans
    assert await again(repository, "bob", "k") == replace(plans[1], attempts=2)
    assert await again(repository, "carol", "k") is None


async def test_owners_see_their_own_plans_only(repository: AsyncStoredPlanRepository) -> None:
    mine, theirs = stored_plan(1, "ann"), stored_plan(2, "bob")
    await add(repository, mine, theirs)
    assert await repository.get("ann", theirs.plan_id, within_s=WITHIN_S) is None
    assert await newest(repository, "ann", 10) == ([1], False)
    assert await newest(repository, "", 10) == ([], False)


async def test_everybodys_plans_are_found_by_who_names_nobody(repository: AsyncStoredPlanRepository) -> None:
    plans = [stored_plan(number, owner) for number, owner in enumerate(("ann", "bob", "*", "ann"), 1)]
    await add(repository, *plans)
    assert await repository.get(None, plans[1].plan_id, within_s=WITHIN_S) == plans[1]
    assert await repository.get(None, UUID(int=9), within_s=WITHIN_S) is None
    assert await newest(repository, None, 3) == ([4, 3, 2], True)
    assert await newest(repository, None, 3, before=UUID(int=2)) == ([1], False)
    assert await newest(repository, None, 9, most_numbers=2 * plans[0].size) == ([4, 3], True)
    assert await newest(repository, "*", 9) == ([3], False)


async def test_of_many_calls_at_once_with_one_key_one_is_kept(repository: AsyncStoredPlanRepository) -> None:
    plans = [stored_plan(number, key="k") for number in range(30)]
    kept = await asyncio.gather(*(repository.add(plan, within_s=WITHIN_S) for plan in plans))
    assert len({plan.plan_id for plan in kept}) == 1
    assert sorted(plan.attempts for plan in kept) == list(range(1, 31))
    assert await newest(repository, "ann", 100) == ([kept[0].plan_id.int], False)


async def test_a_page_begins_where_the_last_one_ended(repository: AsyncStoredPlanRepository) -> None:
    await add(repository, *(stored_plan(number) for number in (3, 1, 6, 2, 5, 4)))
    assert await newest(repository, "ann", 4) == ([6, 5, 4, 3], True)
    assert await newest(repository, "ann", 2, before=UUID(int=3)) == ([2, 1], False)
    assert await newest(repository, "ann", 2, before=UUID(int=1)) == ([], False)
    assert await newest(repository, "ann", 10, before=UUID(int=99)) == ([6, 5, 4, 3, 2, 1], False)


async def test_a_page_ends_where_its_plans_are_large(repository: AsyncStoredPlanRepository) -> None:
    plans = [stored_plan(1), large_plan(2, 3), stored_plan(3), stored_plan(4)]
    await add(repository, *plans)
    assert await newest(repository, "ann", 3, most_numbers=1) == ([4], True)
    assert await newest(repository, "ann", 3, most_numbers=2 * plans[0].size) == ([4, 3], True)
    assert await newest(repository, "ann", 3, most_numbers=2 * plans[0].size + plans[1].size) == ([4, 3, 2], True)
    assert await newest(repository, "ann", 3, before=UUID(int=2), most_numbers=1) == ([1], False)


async def test_a_plan_of_a_thousand_units_holds_nobody_up(repository: AsyncStoredPlanRepository) -> None:
    """What watches every test refuses a turn of the event loop of more than 100 ms."""
    plan = large_plan(1)
    assert await add(repository, plan) == [plan]
    assert await again(repository, "ann", plan.key) == replace(plan, attempts=2)


@pytest.mark.parametrize("text", ["Größe", "計画", "🚀", "'; DROP TABLE plan; --", "%s", "$1", "", "x" * 255])
async def test_names_are_kept_to_the_letter(repository: AsyncStoredPlanRepository, text: str) -> None:
    plan = stored_plan(1, text)
    await add(repository, plan)
    assert await get(repository, plan) == plan


async def test_memory_holds_the_last_plans_only() -> None:
    repository = InMemoryStoredPlanRepository(capacity=3)
    await add(repository, *(stored_plan(number) for number in range(5)))
    assert await newest(repository, "ann", 10) == ([4, 3, 2], False)
    assert await again(repository, "ann", "key-1") is None


async def test_memory_holds_so_many_numbers_only() -> None:
    repository = InMemoryStoredPlanRepository(most_numbers=2 * stored_plan(0).size)
    await add(repository, *(stored_plan(number) for number in range(5)))
    assert await newest(repository, "ann", 10) == ([4, 3], False)
    await add(repository, large_plan(5, 10))
    assert await newest(repository, "ann", 10) == ([5], False)


async def test_what_finds_a_plan_has_written(piccolo_repository: PiccoloStoredPlanRepository) -> None:
    """Only a commit that wrote waits for the standby: each answer about a key is one that did."""
    plan = stored_plan(1)
    await add(piccolo_repository, plan)
    versions = [await version_of(plan)]
    await add(piccolo_repository, stored_plan(2, key=plan.key))
    versions.append(await version_of(plan))
    await again(piccolo_repository, "ann", plan.key)
    versions.append(await version_of(plan))
    assert len(set(versions)) == 3


async def version_of(plan: StoredPlan) -> Any:
    """Return the transaction that wrote the row last."""
    (row,) = await Plan.raw("SELECT xmin::text FROM throttling_sequencer.plan WHERE id = {}", plan.plan_id)
    return row["xmin"]


def test_nothing_is_ever_left_as_it_is() -> None:
    assert " ".join(piccolo_stored_plan_repository._ADD.split()).count("DO NOTHING") == 0


async def test_without_a_server_each_call_ends_in_time(unused_tcp_port: int) -> None:
    nobody = PostgresAddress("127.0.0.1", unused_tcp_port, "postgres", "", "nothing")
    repository = PiccoloStoredPlanRepository()
    plan = stored_plan(1)
    async with pool_on(nobody):
        for call in (
            repository.add(plan, within_s=0.3),
            repository.find_again("ann", "k", within_s=0.3),
            repository.get("ann", plan.plan_id, within_s=0.3),
            repository.newest("ann", 1, most_numbers=1, within_s=0.3),
        ):
            begun = time.monotonic()
            with pytest.raises(StorageUnavailableError):
                await call
            assert time.monotonic() - begun < 1.5


async def test_without_a_database_nothing_is_kept() -> None:
    with pytest.raises(StorageUnavailableError):
        await add(PiccoloStoredPlanRepository(), stored_plan(1))


COLUMNS: LiteralString = """
    SELECT column_name, data_type, udt_name, is_nullable, column_default FROM information_schema.columns
    WHERE table_schema = 'throttling_sequencer' AND table_name = 'plan' ORDER BY ordinal_position
"""


async def test_the_table_has_the_columns_of_its_class(
    database: PostgresAddress, empty_database: PostgresAddress
) -> None:
    async with pool_on(database):
        migrated = await Plan.raw(COLUMNS)
    async with pool_on(empty_database):
        await Plan.create_table()
        assert migrated == await Plan.raw(COLUMNS) != []


MANY: LiteralString = """
    INSERT INTO throttling_sequencer.plan
    SELECT gen_random_uuid(), 'ann', number::text, '', '{}', '{}', '[]', '{}', '{}', '{}', '{}', '', NULL, 0, 1, now()
    FROM generate_series(1, 2000) AS number
"""
PAGE: LiteralString = """
    SELECT id, size FROM throttling_sequencer.plan
    WHERE owner_id = 'ann' AND id < '80000000-0000-0000-0000-000000000000' ORDER BY id DESC LIMIT 10
"""
KEY: LiteralString = "SELECT * FROM throttling_sequencer.plan WHERE owner_id = 'ann' AND key = '7'"


@pytest.mark.parametrize(
    ("query", "scan"),
    [(PAGE, "Index Scan Backward using plan_owner_id_id"), (KEY, "Index Scan using plan_owner_id_key")],
)
def test_what_is_asked_for_has_its_index(database: PostgresAddress, query: LiteralString, scan: str) -> None:
    with psycopg.connect(database.url) as connection:
        connection.execute(MANY)
        connection.execute("ANALYZE throttling_sequencer.plan")
        plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {query}").fetchall())
        assert scan in plan
        assert "Sort" not in plan
        connection.rollback()
