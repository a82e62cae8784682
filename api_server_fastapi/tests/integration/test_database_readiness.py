"""Whether the report sees the database as it is."""

import asyncio
import gc
from collections.abc import AsyncIterator

import psycopg
import pytest
from api_server.checks.database_health_check import DatabaseHealthCheck
from api_server.checks.pipeline_builders import server_pipeline
from api_server.database.connection import create_engine
from api_server.local.postgres import PostgresAddress
from api_server.readiness_pipeline import CheckStatus, ReadinessState
from api_server.testing import RunningCluster
from sqlalchemy.ext.asyncio import AsyncEngine


@pytest.fixture
async def engine(postgres: PostgresAddress) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(postgres.url)
    yield engine
    await engine.dispose()


async def test_a_writable_primary_is_healthy(engine: AsyncEngine) -> None:
    result = await DatabaseHealthCheck(engine).run()
    assert (result.status, result.message) == (CheckStatus.SUCCESS, "writable primary")


async def test_a_database_that_takes_no_writes_is_not(postgres: PostgresAddress) -> None:
    """A standby answers SELECT 1 too."""
    engine = create_engine(postgres.url + "?options=-c%20default_transaction_read_only%3Don")
    result = await DatabaseHealthCheck(engine).run()
    assert (result.status, result.message) == (CheckStatus.FAILED, "the database is read-only")
    await engine.dispose()


async def test_no_database_at_all_is_told_apart(unused_tcp_port: int) -> None:
    result = await DatabaseHealthCheck(None).run()
    assert result.message == "no database is configured"
    engine = create_engine(f"postgresql+psycopg://u:hush-hush@127.0.0.1:{unused_tcp_port}/x")
    result = await DatabaseHealthCheck(engine).run()
    assert (result.status, result.message) == (CheckStatus.FAILED, "the database cannot be reached")
    assert "hush-hush" not in str(result.details)


async def test_a_url_that_cannot_be_read_is_not_repeated() -> None:
    result = await DatabaseHealthCheck(create_engine("postgresql://u:hush%zzhush@127.0.0.1/x")).run()
    assert (result.status, result.message) == (CheckStatus.FAILED, "the database's URL cannot be read")
    assert "hush" not in str(result)


async def test_a_wrong_password_is_not_reached(postgres: PostgresAddress) -> None:
    engine = create_engine(postgres.url.replace(postgres.password, "wrong"))
    assert (await DatabaseHealthCheck(engine).run()).status is CheckStatus.FAILED


@pytest.mark.parametrize(
    ("requires_database", "state"), [(True, ReadinessState.ERROR), (False, ReadinessState.DEGRADED)]
)
async def test_a_stopped_database_and_its_return_are_seen(
    postgres_cluster: RunningCluster, requires_database: bool, state: ReadinessState
) -> None:
    engine = create_engine(postgres_cluster.address.url)
    pipeline = server_pipeline(engine, requires_database=requires_database)
    assert (await pipeline.run()).state is ReadinessState.OPERATIONAL
    await asyncio.to_thread(postgres_cluster.stop)
    assert (await pipeline.run()).state is state
    await asyncio.to_thread(postgres_cluster.start)
    assert (await pipeline.run()).state is ReadinessState.OPERATIONAL
    await engine.dispose()


async def test_a_database_that_is_frozen_does_not_hold_the_report(unused_tcp_port: int) -> None:
    given_up = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        given_up.set()

    async with await asyncio.start_server(never_answer, "127.0.0.1", unused_tcp_port):
        engine = create_engine(f"postgresql://u:p@127.0.0.1:{unused_tcp_port}/x")
        async with asyncio.timeout(4):
            result = await DatabaseHealthCheck(engine).run()
        assert result.status is CheckStatus.FAILED
        await engine.dispose()
        # psycopg closes a connection that was given up when the error that tells of it is collected.
        gc.collect()
        async with asyncio.timeout(4):
            await given_up.wait()


def test_the_fixture_is_a_real_server(postgres: PostgresAddress) -> None:
    with psycopg.connect(postgres.url) as connection:
        assert connection.info.server_version >= 160000
