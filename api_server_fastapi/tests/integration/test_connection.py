"""The database of a process: one engine, sessions that end, one error for a database that is away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
from api_server.app import create_app
from api_server.application import Application
from api_server.database.connection import (
    borrow_db_session,
    create_sync_engine,
    dispose_db,
    get_db_session,
    get_engine,
    init_db,
    renew_connections,
)
from api_server.exceptions import DatabaseUnavailableError, StartError
from api_server.local.postgres import PostgresAddress
from api_server.settings import get_settings
from api_server.testing import RunningCluster, Serve
from fastapi import APIRouter, Depends
from frozen_server import frozen
from proxies import tcp_proxy
from sqlalchemy import CursorResult, text
from sqlalchemy.exc import DBAPIError
from sqlmodel.ext.asyncio.session import AsyncSession


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture
def table(database: PostgresAddress) -> PostgresAddress:
    with psycopg.connect(database.url) as connection:
        connection.execute("CREATE TABLE notes (text text NOT NULL)")
    return database


@pytest.fixture
async def in_use(table: PostgresAddress) -> AsyncIterator[PostgresAddress]:
    init_db(table.url)
    yield table
    await dispose_db()


async def run(session: AsyncSession, statement: str, **parameters: str) -> CursorResult[Any]:
    return await (await session.connection()).execute(text(statement), parameters)


async def notes() -> list[str]:
    async with borrow_db_session() as session:
        return list((await run(session, "SELECT text FROM notes")).scalars())


async def write(session: AsyncSession, note: str) -> None:
    await run(session, "INSERT INTO notes VALUES (:note)", note=note)


async def test_a_process_has_one_engine_until_it_is_disposed_of(database: PostgresAddress) -> None:
    engine = init_db(database.url)
    assert init_db(database.url) is engine is get_engine()
    with pytest.raises(RuntimeError, match="another database already: call dispose_db"):
        init_db("postgresql://elsewhere/x")
    await dispose_db()
    await dispose_db()
    with pytest.raises(DatabaseUnavailableError) as caught:
        get_engine()
    assert caught.value.reason == "no database is in use: init_db() comes first"


async def test_the_setting_names_the_database(database: PostgresAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartError, match="set API_SERVER_DATABASE_URL"):
        init_db()
    monkeypatch.setenv("API_SERVER_DATABASE_URL", database.url)
    get_settings.cache_clear()
    init_db()
    async with borrow_db_session() as session:
        assert (await run(session, "SELECT current_database()")).scalar() == database.database
    await dispose_db()


async def test_only_what_is_committed_stays(in_use: PostgresAddress) -> None:
    async with borrow_db_session() as session:
        await write(session, "kept")
        await session.commit()
        await write(session, "not committed")
    with pytest.raises(DBAPIError):  # noqa: PT012 - what comes before the failure is what is to go
        async with borrow_db_session() as session:
            await write(session, "failed")
            await run(session, "SELECT 1 / 0")
    assert await notes() == ["kept"]


async def test_an_endpoint_gets_a_session_that_ends_with_its_request(table: PostgresAddress, serve: Serve) -> None:
    router = APIRouter()

    @router.post("/notes/{note}", status_code=201)
    async def add(note: str, session: AsyncSession = Depends(get_db_session)) -> None:  # noqa: B008, FAST002 - as the seed has it
        await write(session, note)
        if note == "kept":
            await session.commit()

    application = Application(
        name="notes", version="1", routers=lambda: (router,), database_url=lambda: table.url, requires_database=True
    )
    async with serve(create_app(application)) as client:
        for note in ("kept", "forgotten"):
            assert (await client.post(f"/notes/{note}")).status_code == 201
        assert await notes() == ["kept"]


class TestADatabaseThatIsAway:
    async def test_is_told_from_a_mistake(self, in_use: PostgresAddress) -> None:
        with pytest.raises(DBAPIError):
            async with borrow_db_session() as session:
                await run(session, "SELECT 1 +")
        assert await notes() == []

    async def test_is_noticed_at_once_where_nobody_listens(self, unused_tcp_port: int) -> None:
        init_db(f"postgresql://postgres:hush@127.0.0.1:{unused_tcp_port}/x")
        async with asyncio.timeout(1):
            with pytest.raises(DatabaseUnavailableError) as caught:
                await notes()
        assert "refused" in caught.value.reason
        assert "hush" not in str(caught.value) + caught.value.reason
        await dispose_db()

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://u:hush%zzhush@127.0.0.1/x",
            # What follows the first @ would be a host that cannot be found, by name.
            "postgresql://u:hu@sh-hush@127.0.0.1/x",
        ],
    )
    async def test_has_a_url_that_is_not_repeated(self, url: str) -> None:
        init_db(url)
        with pytest.raises(DatabaseUnavailableError) as caught:
            await notes()
        assert caught.value.reason == "The database's URL cannot be read."
        await dispose_db()

    async def test_lacks_its_tables_before_it_is_migrated(self, database: PostgresAddress) -> None:
        init_db(database.url)
        with pytest.raises(DatabaseUnavailableError) as caught:
            await notes()
        assert caught.value.reason == "its tables are not those of this release: api-server-cli db upgrade"
        await dispose_db()

    async def test_has_columns_of_another_release(self, in_use: PostgresAddress) -> None:
        with pytest.raises(DatabaseUnavailableError) as caught:
            async with borrow_db_session() as session:
                await run(session, "SELECT colour FROM notes")
        assert caught.value.reason == "its tables are not those of this release: api-server-cli db upgrade"

    async def test_ends_transactions_that_take_long(self, in_use: PostgresAddress) -> None:
        with pytest.raises(DatabaseUnavailableError) as caught:  # noqa: PT012 - who waits in a transaction is ended
            async with borrow_db_session() as session:
                await run(session, "SET LOCAL idle_in_transaction_session_timeout = 50")
                await asyncio.sleep(0.2)
                await run(session, "SELECT 1")
        assert "idle" in caught.value.reason.lower() or "lost" in caught.value.reason.lower(), caught.value.reason

    async def test_may_come_back(self, postgres_cluster: RunningCluster) -> None:
        init_db(postgres_cluster.address.url)
        async with borrow_db_session() as session:
            await run(session, "CREATE TABLE notes (text text)")
            await session.commit()
        await asyncio.to_thread(postgres_cluster.stop)
        with pytest.raises(DatabaseUnavailableError):
            await notes()
        await asyncio.to_thread(postgres_cluster.start)
        assert await notes() == []
        await dispose_db()

    async def test_takes_no_writes_as_a_standby(self, in_use: PostgresAddress) -> None:
        async with borrow_db_session() as session:
            await run(session, f"ALTER DATABASE {in_use.database} SET default_transaction_read_only = on")
            await session.commit()
        await get_engine().dispose()
        for _ in range(2):
            with pytest.raises(DatabaseUnavailableError) as caught:
                async with borrow_db_session() as session:
                    await write(session, "lost")
            assert caught.value.reason.startswith("ReadOnlySqlTransaction")
            assert get_engine().pool.status().startswith("Pool size: 5  Connections in pool: 0")

    @pytest.mark.slow
    async def test_holds_nobody_for_longer_than_they_wait(self, postgres_cluster: RunningCluster) -> None:
        init_db(postgres_cluster.address.url)
        async with borrow_db_session() as session:
            await run(session, "SELECT 1")
        with frozen(postgres_cluster):
            async with asyncio.timeout(2):
                with pytest.raises(DatabaseUnavailableError, match="try again"):
                    async with borrow_db_session(timeout=0.5) as session:
                        await run(session, "SELECT 1")
        await dispose_db()


class TestLimits:
    async def test_a_statement_runs_for_so_long(self, in_use: PostgresAddress, monkeypatch: pytest.MonkeyPatch) -> None:
        await dispose_db()
        monkeypatch.setenv("API_SERVER_DATABASE_STATEMENT_TIMEOUT_MS", "50")
        get_settings.cache_clear()
        init_db(in_use.url)
        with pytest.raises(DatabaseUnavailableError) as caught:
            async with borrow_db_session() as session:
                await run(session, "SELECT pg_sleep(5)")
        assert caught.value.reason.startswith("QueryCanceled: canceling statement due to statement timeout")

    async def test_a_session_takes_so_long(self, in_use: PostgresAddress) -> None:
        with pytest.raises(DatabaseUnavailableError) as caught:
            async with borrow_db_session(timeout=0.05) as session:
                await run(session, "SELECT pg_sleep(5)")
        assert caught.value.reason == "no answer in time"
        assert await notes() == []

    async def test_a_time_limit_of_the_body_stays_its_own(self, in_use: PostgresAddress) -> None:
        with pytest.raises(TimeoutError):
            async with borrow_db_session(timeout=5):
                raise TimeoutError

    async def test_every_connection_in_use_is_said_in_time(
        self, in_use: PostgresAddress, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await dispose_db()
        monkeypatch.setenv("API_SERVER_DATABASE_POOL_SIZE", "1")
        get_settings.cache_clear()
        init_db(in_use.url)
        async with borrow_db_session() as session:
            await run(session, "SELECT 1")
            with pytest.raises(DatabaseUnavailableError) as caught:
                await notes()
        assert caught.value.reason == "every connection of the pool is in use"

    async def test_a_connection_through_a_pooler_is_left_as_it_is(self, database: PostgresAddress) -> None:
        """Whoever is lent it next has no use for our limits."""
        async with tcp_proxy(database, invents_process_numbers=True) as url:
            init_db(url)
            async with borrow_db_session() as session:
                assert (await run(session, "SHOW statement_timeout")).scalar() == "0"
            await dispose_db()

    async def test_who_writes_by_version_sees_what_others_committed(self, in_use: PostgresAddress) -> None:
        """Whatever the database's own default is."""
        async with borrow_db_session() as session:
            await run(session, f"ALTER DATABASE {in_use.database} SET default_transaction_isolation = 'serializable'")
            await session.commit()
        await renew_connections()
        async with borrow_db_session() as session:
            assert (await run(session, "SHOW transaction_isolation")).scalar() == "read committed"

    async def test_a_dead_peer_is_noticed(self, in_use: PostgresAddress) -> None:
        async with borrow_db_session() as session:
            connection = await session.connection()
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            parameters = driver.info.get_parameters()
        assert parameters["tcp_user_timeout"] == "15000"
        assert parameters["keepalives_idle"] == "10"


def test_commands_use_an_engine_that_keeps_no_connection(database: PostgresAddress) -> None:
    engine = create_sync_engine(database.url, application_name="command")
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT current_setting('application_name')")) == "command"
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) != pid
