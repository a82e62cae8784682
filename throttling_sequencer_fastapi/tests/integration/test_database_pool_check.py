"""What readiness says of the pool: where it leads, and how durable what is kept there is."""

import asyncio

import asyncpg
import psycopg
import pytest
from api_server.local.postgres import PostgresAddress
from api_server.readiness_pipeline import CheckStatus, ReadinessCheckResult
from api_server.testing import RunningCluster
from piccolo_database import pool_on
from scripted_postgres import ScriptedServer, scripted
from structlog.testing import capture_logs
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB
from throttling_sequencer.infrastructure.readiness_checks import DatabasePoolCheck


async def looked_at(address: PostgresAddress) -> ReadinessCheckResult:
    async with pool_on(address):
        return await DatabasePoolCheck().run()


@pytest.fixture
def synchronous_server(postgres_cluster: RunningCluster) -> PostgresAddress:
    """Give a server whose commits are to wait for a standby, which it does not have."""
    with psycopg.connect(postgres_cluster.address.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        # The server's own command line says otherwise, which this goes before.
        connection.execute("ALTER ROLE CURRENT_USER SET synchronous_commit = on")
        connection.execute("SELECT pg_reload_conf()")
    return postgres_cluster.address


@pytest.fixture
def as_guest(database: PostgresAddress) -> PostgresAddress:
    """Give a database that nobody may ask about replication."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("REVOKE SELECT ON pg_stat_replication FROM PUBLIC")
        connection.execute("DO $$ BEGIN CREATE ROLE guest LOGIN PASSWORD 'x'; EXCEPTION WHEN OTHERS THEN END $$")
    return PostgresAddress(database.host, database.port, "guest", database.database, "x")


async def test_it_names_the_writer_and_whether_commits_wait_for_standbys(database: PostgresAddress) -> None:
    result = await looked_at(database)
    assert result.message == "takes writes"
    assert {name: result.details[name] for name in ("writer", "timeline")} == {
        "writer": f"{database.host}:{database.port}",
        "timeline": 1,
    }
    assert {name: result.details[name] for name in ("is_synchronous", "standbys", "synchronous_standbys")} == {
        "is_synchronous": False,
        "standbys": 0,
        "synchronous_standbys": 0,
    }


async def test_it_says_where_commits_are_to_wait_and_nobody_is_there(synchronous_server: PostgresAddress) -> None:
    result = await looked_at(synchronous_server)
    assert result.status is CheckStatus.WARNING
    assert result.message == "takes writes, whose commits wait: no standby is there to confirm them"
    assert result.details["is_synchronous"] is True
    assert result.details["synchronous_standbys"] == 0


async def test_it_does_without_what_it_may_not_see(as_guest: PostgresAddress) -> None:
    result = await looked_at(as_guest)
    assert result.message == "takes writes"
    assert "is_synchronous" not in result.details


async def test_one_line_names_the_writer(database: PostgresAddress) -> None:
    with capture_logs() as logged:
        await looked_at(database)
    (line,) = [line for line in logged if line["event"] == "the writer changed"]
    assert (line["host"], line["port"], line["timeline"]) == (database.host, database.port, 1)
    assert line["before"] is None


async def test_it_has_a_promotion_elsewhere_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the old primary goes on to answer, whom nobody fenced."""
    old, new = ScriptedServer(), ScriptedServer(is_standby=True)
    async with scripted(old, new):
        address = PostgresAddress(old.host, old.port, "u", "d", "x")
        hosts = {"PICCOLO_DB_HOST": f"{old.host},{new.host}", "PICCOLO_DB_PORT": f"{old.port},{new.port}"}
        async with pool_on(address, **hosts):
            kept = await DB.acquire(5.0)
            new.is_standby, new.timeline = False, 2
            await DatabasePoolCheck().run()
            async with asyncio.timeout(10):
                while DB.writer != new.writer:
                    await asyncio.sleep(0.002)
            with pytest.raises(asyncpg.InterfaceError):
                await kept.execute("SELECT")
