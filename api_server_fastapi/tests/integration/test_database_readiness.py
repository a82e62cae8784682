"""Whether the report sees the database as it is."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import psycopg
import pytest
from api_server.checks import database_initialization_check
from api_server.checks.database_health_check import DatabaseHealthCheck
from api_server.checks.database_initialization_check import DatabaseInitializationCheck
from api_server.checks.database_schema_check import DatabaseSchemaCheck
from api_server.checks.pipeline_builders import server_pipeline
from api_server.database.connection import create_engine
from api_server.local.postgres import PostgresAddress
from api_server.readiness_pipeline import CheckStatus, ReadinessState
from api_server.services.registry import ServiceRegistry
from api_server.testing import RunningCluster
from older_postgres import older_postgres
from proxies import tcp_proxy
from sqlalchemy.ext.asyncio import AsyncEngine


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresAddress]:
    with older_postgres(tmp_path_factory.mktemp("older") / "postgres") as address:
        yield address


@pytest.fixture(params=["postgres", "older"])
def server(request: pytest.FixtureRequest) -> PostgresAddress:
    address: PostgresAddress = request.getfixturevalue(request.param)
    return address


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(url)
    try:
        yield engine
    finally:
        await engine.dispose()


@pytest.fixture
async def engine(server: PostgresAddress) -> AsyncIterator[AsyncEngine]:
    async with connected(server.url) as engine:
        yield engine


class TestInitialization:
    async def test_what_the_server_is_is_kept_once_it_is_known(
        self, server: PostgresAddress, engine: AsyncEngine
    ) -> None:
        check = DatabaseInitializationCheck(engine)
        result = await check.run()
        assert result.status is CheckStatus.SUCCESS
        assert str(result.details["version"]).startswith("1")
        assert (result.details["database"], result.details["user"]) == (server.database, server.user)
        assert await check.run() is result

    async def test_a_pooler_is_told_of(self, postgres: PostgresAddress) -> None:
        async with tcp_proxy(postgres, invents_process_numbers=True) as pooler, connected(pooler) as engine:
            result = await DatabaseInitializationCheck(engine).run()
        assert result.status is CheckStatus.WARNING
        assert result.message == "a connection pooler: locks need API_SERVER_DATABASE_URL of the primary"

    async def test_a_proxy_that_passes_connections_on_is_none(self, postgres: PostgresAddress) -> None:
        async with tcp_proxy(postgres) as proxy, connected(proxy) as engine:
            assert (await DatabaseInitializationCheck(engine).run()).status is CheckStatus.SUCCESS

    async def test_an_old_server_is_refused(self, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(database_initialization_check, "OLDEST_POSTGRES", 99)
        result = await DatabaseInitializationCheck(engine).run()
        assert result.status is CheckStatus.FAILED
        assert result.message.endswith("is too old: 99 or newer is needed")

    @pytest.fixture
    def latin(self, server: PostgresAddress) -> Iterator[PostgresAddress]:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
            yield replace(server, database="latin")
            connection.execute("DROP DATABASE latin WITH (FORCE)")

    async def test_so_is_a_database_that_cannot_hold_every_text(self, latin: PostgresAddress) -> None:
        async with connected(latin.url) as engine:
            result = await DatabaseInitializationCheck(engine).run()
        assert result.message == "the database is encoded as LATIN1, and should be as UTF8"

    @pytest.mark.parametrize(
        ("is_needed", "status", "skips"), [(True, CheckStatus.FAILED, False), (False, CheckStatus.NOT_APPLICABLE, True)]
    )
    async def test_a_database_is_missed_where_it_is_needed(
        self, is_needed: bool, status: CheckStatus, skips: bool
    ) -> None:
        result = await DatabaseInitializationCheck(None, is_needed=is_needed).run()
        assert (result.status, result.skips_stage) == (status, skips)


class TestSchema:
    class Backend:
        """Has migrations that a test applies."""

        def __init__(self, name: str, *pending: str) -> None:
            self.name = name
            self.left = list(pending)
            self.error: Exception | None = None

        async def applied(self) -> list[str]:
            return []

        async def pending(self) -> list[str]:
            if self.error is not None:
                raise self.error
            return self.left

        async def upgrade(self) -> None:
            raise AssertionError("a check changes nothing")

        async def downgrade(self, target: str) -> None:
            raise AssertionError("a check changes nothing")

    async def test_every_backend_is_asked(self) -> None:
        first, second = self.Backend("first"), self.Backend("second", "0001", "0002")
        check = DatabaseSchemaCheck([first, second])
        result = await check.run()
        assert (result.status, result.details) == (CheckStatus.FAILED, {"second": ["0001", "0002"]})
        assert result.message == "pending migrations: 2 (api-server-cli db upgrade)"
        second.left.clear()
        result = await check.run()
        assert (result.status, result.message) == (CheckStatus.SUCCESS, "up to date")

    async def test_without_migrations_there_is_nothing_to_ask(self) -> None:
        assert (await DatabaseSchemaCheck([]).run()).status is CheckStatus.NOT_APPLICABLE

    async def test_migrations_that_cannot_be_read_have_failed(self) -> None:
        backend = self.Backend("broken")
        backend.error = ValueError("no such folder")
        result = await DatabaseSchemaCheck([backend]).run()
        assert (result.status, result.message) == (CheckStatus.FAILED, "the migrations cannot be read")
        assert result.details == {"error": "The broken migrations failed: no such folder"}

    async def test_a_database_that_comes_back_may_be_another_one(self, postgres_cluster: RunningCluster) -> None:
        backend = self.Backend("own")
        async with connected(postgres_cluster.address.url) as engine:
            pipeline = server_pipeline(engine, [backend], requires_database=True)
            assert (await pipeline.run()).state is ReadinessState.OPERATIONAL
            backend.left.append("0001")
            assert (await pipeline.run()).state is ReadinessState.OPERATIONAL
            await asyncio.to_thread(postgres_cluster.stop)
            report = await pipeline.run()
            assert [str(result.status) for result in report.stages[0].results] == ["success", "failed", "skipped"]
            await asyncio.to_thread(postgres_cluster.start)
            report = await pipeline.run()
            assert list(report.failing) == ["database_schema"]


async def test_services_that_can_be_pinged_have_checks(engine: AsyncEngine) -> None:
    asked: list[str] = []

    class Good:
        pass

    class Bad:
        pass

    async def refuse(service: Bad) -> None:
        raise ConnectionError("nobody there")

    registry = ServiceRegistry()
    registry.register_singleton(Good, Good, ping=lambda service: asked.append(threading.current_thread().name))
    registry.register_factory(Bad, Bad, ping=refuse)
    registry.register_factory(AsyncEngine, lambda: engine)
    report = await server_pipeline(engine, requires_database=True, pings=registry.pings()).run()
    assert [stage.name for stage in report.stages] == ["database", "services"]
    assert report.failing == {"ping_Bad": "ConnectionError; nobody there"}
    assert report.state is ReadinessState.DEGRADED
    assert asked == ["readiness check ping_Good"]


async def test_a_writable_primary_is_healthy(engine: AsyncEngine) -> None:
    result = await DatabaseHealthCheck(engine).run()
    assert (result.status, result.message) == (CheckStatus.SUCCESS, "writable primary")


async def test_a_database_that_takes_no_writes_is_not(server: PostgresAddress) -> None:
    """A standby answers SELECT 1 too."""
    engine = create_engine(server.url + "?options=-c%20default_transaction_read_only%3Don")
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
