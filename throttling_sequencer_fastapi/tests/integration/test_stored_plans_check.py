"""Readiness says whether plans can be kept, and not only whether there is a database."""

import psycopg
import pytest
from api_server.local.postgres import PostgresAddress
from api_server.readiness_pipeline import CheckStatus
from piccolo_database import pool_on
from throttling_sequencer.infrastructure.db.piccolo_migrations import PiccoloMigrations
from throttling_sequencer.infrastructure.repositories.in_memory_stored_plan_repository import (
    InMemoryStoredPlanRepository,
)
from throttling_sequencer.infrastructure.repositories.piccolo_stored_plan_repository import PiccoloStoredPlanRepository
from throttling_sequencer.infrastructure.stored_plans_check import StoredPlansCheck


async def test_a_table_that_is_not_there_or_not_ours_is_told(database: PostgresAddress) -> None:
    check = StoredPlansCheck(PiccoloStoredPlanRepository())
    async with pool_on(database):
        without = await check.run()
    await PiccoloMigrations(database.url).upgrade()
    async with pool_on(database):
        with_table = await check.run()
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as operator:
        await operator.execute("CREATE ROLE reader LOGIN PASSWORD 'reader'")
        try:
            await operator.execute("GRANT USAGE ON SCHEMA throttling_sequencer TO reader")
            await operator.execute("GRANT SELECT ON throttling_sequencer.plan TO reader")
            async with pool_on(database, PICCOLO_DB_USER="reader", PICCOLO_DB_PASSWORD="reader"):
                reading_only = await check.run()
        finally:
            await operator.execute("DROP OWNED BY reader")
            await operator.execute("DROP ROLE reader")
    assert without.status is CheckStatus.FAILED
    assert with_table.status is CheckStatus.SUCCESS
    assert reading_only.status is CheckStatus.FAILED
    assert "permission denied" in str(reading_only.details)


@pytest.mark.parametrize("repository", [InMemoryStoredPlanRepository(), PiccoloStoredPlanRepository()])
async def test_without_a_pool_there_is_nothing_to_look_at(
    repository: InMemoryStoredPlanRepository | PiccoloStoredPlanRepository,
) -> None:
    assert (await StoredPlansCheck(repository).run()).status is CheckStatus.NOT_APPLICABLE
