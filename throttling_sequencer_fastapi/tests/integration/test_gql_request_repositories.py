"""The request log keeps its promises, wherever it is kept; and the one in PostgreSQL when PostgreSQL does not."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import LiteralString
from uuid import UUID

import asyncpg
import psycopg
import pytest
from api_server.local.postgres import PostgresAddress
from api_server.testing import RunningCluster, clean_environment, fresh_database
from frozen_server import frozen
from piccolo_database import pool_on
from psycopg import sql
from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.domain.request_log import AsyncGqlRequestRepository, GqlRequest, Outcome
from throttling_sequencer.infrastructure.db.piccolo_migrations import PiccoloMigrations
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB
from throttling_sequencer.infrastructure.repositories import piccolo_gql_request_repository
from throttling_sequencer.infrastructure.repositories.in_memory_gql_request_repository import (
    InMemoryGqlRequestRepository,
)
from throttling_sequencer.infrastructure.repositories.piccolo_gql_request_repository import PiccoloGqlRequestRepository

EVERY_MODULE = """
import importlib, pkgutil, sys
from throttling_sequencer import infrastructure

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        sys.exit(f"{event} {arguments}")

sys.addaudithook(refuse)
for module in pkgutil.walk_packages(infrastructure.__path__, infrastructure.__name__ + "."):
    importlib.import_module(module.name)
    print(module.name)
"""


def request(number: int, user_id: str = "ann", **values: object) -> GqlRequest:
    """Make the request that began in a second of this number, and whose id is the number."""
    fields = {
        "operation_id": UUID(int=number),
        "request_id": f"request-{number}",
        "operation_name": "Plan",
        "user_id": user_id,
        "unix_time": float(number),
        "duration_ms": 1.25,
        "outcome": Outcome.SUCCESS,
    }
    return GqlRequest(**{**fields, **values})  # type: ignore[arg-type]  # a test names the fields that matter to it


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
async def piccolo_repository(database: PostgresAddress) -> AsyncIterator[PiccoloGqlRequestRepository]:
    async with pool_on(database):
        await DB.run_ddl("TRUNCATE throttling_sequencer.gql_request_info")
        yield PiccoloGqlRequestRepository()


@pytest.fixture
def in_memory_repository() -> InMemoryGqlRequestRepository:
    return InMemoryGqlRequestRepository()


@pytest.fixture(params=["piccolo_repository", "in_memory_repository"])
def repository(request: pytest.FixtureRequest) -> AsyncGqlRequestRepository:
    repository: AsyncGqlRequestRepository = request.getfixturevalue(request.param)
    return repository


async def test_what_is_added_is_found_as_it_was_newest_first(repository: AsyncGqlRequestRepository) -> None:
    requests = [request(number, outcome=outcome) for number, outcome in enumerate(Outcome)]
    await repository.add([requests[2], requests[0], requests[3], requests[1]])
    assert await repository.newest("ann", 10) == requests[::-1]


async def test_a_page_begins_where_the_last_one_ended(repository: AsyncGqlRequestRepository) -> None:
    await repository.add([request(number) for number in range(7)])
    pages = [await repository.newest("ann", 3)]
    for _ in range(3):
        pages.append(await repository.newest("ann", 3, before=pages[-1][-1].operation_id))
    assert [[found.operation_id.int for found in page] for page in pages] == [[6, 5, 4], [3, 2, 1], [0], []]


async def test_a_page_may_begin_at_an_operation_that_is_not_kept(repository: AsyncGqlRequestRepository) -> None:
    await repository.add([request(2), request(4)])
    assert await repository.newest("ann", 10, before=UUID(int=3)) == [request(2)]


async def test_users_see_their_own_requests_only(repository: AsyncGqlRequestRepository) -> None:
    await repository.add([request(1, "ann"), request(2, "bob"), request(3, "ann"), request(4, "Ann")])
    assert await repository.newest("ann", 10) == [request(3), request(1)]
    assert await repository.newest("bob", 10, before=UUID(int=2)) == []
    assert await repository.newest("", 10) == []
    assert await repository.newest(None, 3) == [request(4, "Ann"), request(3), request(2, "bob")]
    assert await repository.newest(None, 3, before=UUID(int=2)) == [request(1)]


@pytest.mark.parametrize(("limit", "found"), [(0, 0), (1, 1), (3, 3), (4, 3)])
async def test_no_more_are_found_than_asked_for(repository: AsyncGqlRequestRepository, limit: int, found: int) -> None:
    await repository.add([request(number) for number in range(3)])
    assert len(await repository.newest("ann", limit)) == found


async def test_what_is_added_again_stays_as_it_was(repository: AsyncGqlRequestRepository) -> None:
    await repository.add([request(1)])
    await repository.add([request(1, operation_name="Other", outcome=Outcome.FAILED)])
    assert await repository.newest("ann", 10) == [request(1)]


async def test_of_a_batch_that_is_known_in_part_the_rest_is_added(repository: AsyncGqlRequestRepository) -> None:
    await repository.add([request(1), request(2)])
    await repository.add([request(2), request(3), request(3, operation_name="Other")])
    assert await repository.newest("ann", 10) == [request(3), request(2), request(1)]


async def test_nothing_may_be_added(repository: AsyncGqlRequestRepository) -> None:
    await repository.add([])
    assert await repository.newest("ann", 10) == []


@pytest.mark.parametrize("text", ["Größe", "計画", "🚀", "'; DROP TABLE users; --", "{}", "%s", "$1", "", "x" * 10_000])
async def test_texts_are_kept_to_the_letter(repository: AsyncGqlRequestRepository, text: str) -> None:
    added = [request(1, request_id=text, operation_name=text), request(2, user_id=text[:100], operation_name=None)]
    await repository.add(added)
    assert await repository.newest("ann", 10) == [added[0]]
    assert await repository.newest(text[:100], 10) == [added[1]]


async def test_what_began_before_a_time_is_forgotten_whosever_it_is(repository: AsyncGqlRequestRepository) -> None:
    await repository.add([request(1), request(2, "bob"), request(3), request(4)])
    assert await repository.delete_older_than(3.0) == 2
    assert await repository.newest("ann", 10) == [request(4), request(3)]
    assert await repository.newest("bob", 10) == []
    assert await repository.delete_older_than(3.0) == 0


async def test_what_is_forgotten_may_be_added_again(repository: AsyncGqlRequestRepository) -> None:
    await repository.add([request(1)])
    await repository.delete_older_than(2.0)
    await repository.add([request(1)])
    assert await repository.newest("ann", 10) == [request(1)]


async def test_memory_holds_the_last_ones_only() -> None:
    repository = InMemoryGqlRequestRepository(capacity=3)
    await repository.add([request(number) for number in range(2)])
    await repository.add([request(number) for number in range(1, 5)])
    assert await repository.newest("ann", 10) == [request(4), request(3), request(2)]


async def test_a_batch_is_one_statement(piccolo_repository: PiccoloGqlRequestRepository) -> None:
    before = DB.query_id
    await piccolo_repository.add([request(number) for number in range(500)])
    assert DB.query_id == before + 1


async def test_much_is_deleted_in_several_statements(
    piccolo_repository: PiccoloGqlRequestRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piccolo_gql_request_repository, "_DELETED_AT_ONCE", 2)
    await piccolo_repository.add([request(number) for number in range(7)])
    before = DB.query_id
    assert await piccolo_repository.delete_older_than(5.0) == 5
    assert DB.query_id == before + 4
    assert await piccolo_repository.newest("ann", 10) == [request(6), request(5)]


async def test_several_processes_may_delete_at_once(
    piccolo_repository: PiccoloGqlRequestRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piccolo_gql_request_repository, "_DELETED_AT_ONCE", 10)
    await piccolo_repository.add([request(number) for number in range(500)])
    deleted = await asyncio.gather(*(piccolo_repository.delete_older_than(1000.0) for _ in range(4)))
    assert sum(deleted) == 500


async def test_what_another_process_is_deleting_is_left_to_it(
    piccolo_repository: PiccoloGqlRequestRepository, database: PostgresAddress
) -> None:
    await piccolo_repository.add([request(number) for number in range(5)])
    with psycopg.connect(database.url) as connection:
        connection.execute("SELECT FROM throttling_sequencer.gql_request_info WHERE unix_time < 2 FOR UPDATE")
        assert await piccolo_repository.delete_older_than(4.0) == 2
    assert await piccolo_repository.delete_older_than(4.0) == 2


PAGE = """
    SELECT * FROM throttling_sequencer.gql_request_info
    WHERE user_id = 'ann' AND operation_id < '00000000-0000-0000-0000-000000000009'
    ORDER BY operation_id DESC LIMIT 10
"""
OLD = "SELECT operation_id FROM throttling_sequencer.gql_request_info WHERE unix_time < 1 ORDER BY unix_time LIMIT 10"


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (PAGE, "Index Scan Backward using gql_request_info_user_id_operation_id"),
        (OLD, "Index Scan using gql_request_info_unix_time"),
    ],
)
def test_what_is_asked_for_has_its_index(database: PostgresAddress, query: LiteralString, index: str) -> None:
    with psycopg.connect(database.url) as connection:
        connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
        plan = "\n".join(line for (line,) in connection.execute("EXPLAIN " + query))
    assert index in plan
    assert "Sort" not in plan


async def test_an_error_of_the_caller_is_told_as_it_is(piccolo_repository: PiccoloGqlRequestRepository) -> None:
    with pytest.raises(asyncpg.PostgresError, match="LIMIT must not be negative"):
        await piccolo_repository.newest("ann", -1)
    with pytest.raises(asyncpg.DataError):
        await piccolo_repository.add([request(1, unix_time="noon")])
    with pytest.raises(asyncpg.CharacterNotInRepertoireError):
        await piccolo_repository.add([request(1, request_id="\0")])


async def test_a_configuration_that_cannot_be_used_is_no_passing_trouble(database: PostgresAddress) -> None:
    async with pool_on(database, PGSSLMODE="nonsense"):
        with pytest.raises(asyncpg.InterfaceError, match="sslmode"):
            await PiccoloGqlRequestRepository().newest("ann", 1)


async def test_where_no_database_is_configured_the_storage_is_unavailable() -> None:
    with pytest.raises(StorageUnavailableError) as caught:
        await PiccoloGqlRequestRepository().newest("ann", 1)
    assert caught.value.reason == "no database is configured"


@pytest.mark.parametrize("schema", [False, True])
async def test_before_its_migration_the_storage_is_unavailable(empty_database: PostgresAddress, schema: bool) -> None:
    if schema:
        with psycopg.connect(empty_database.url) as connection:
            connection.execute("CREATE SCHEMA throttling_sequencer")
            connection.execute("CREATE TABLE throttling_sequencer.gql_request_info (operation_id uuid)")
    async with pool_on(empty_database):
        await assert_unavailable("does not exist")


async def assert_unavailable(reason: str) -> None:
    repository = PiccoloGqlRequestRepository()
    calls = (repository.add([request(1)]), repository.newest("ann", 1), repository.delete_older_than(1.0))
    for error in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(error, StorageUnavailableError), error
        assert reason in error.reason


async def test_a_database_that_takes_no_writes_is_unavailable_until_it_does(database: PostgresAddress) -> None:
    """Connections that were made meanwhile are not used again."""
    repository = PiccoloGqlRequestRepository()
    async with pool_on(database, PICCOLO_DB_POOL_SIZE="1"):
        set_read_only(database, "on")
        with pytest.raises(StorageUnavailableError, match="cannot be used"):
            await repository.add([request(100)])
        set_read_only(database, "off")
        await repository.add([request(100)])


def set_read_only(database: PostgresAddress, value: str) -> None:
    name = sql.Identifier(database.database)
    with psycopg.connect(database.url, autocommit=True, options="-c default_transaction_read_only=off") as connection:
        statement = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
        connection.execute(statement.format(name, sql.Literal(value)))


async def test_the_pool_survives_a_server_that_stops_and_starts(postgres_cluster: RunningCluster) -> None:
    await PiccoloMigrations(postgres_cluster.address.url).upgrade()
    repository = PiccoloGqlRequestRepository()
    async with pool_on(postgres_cluster.address):
        await repository.add([request(1)])
        await asyncio.to_thread(postgres_cluster.stop)
        await assert_unavailable("")
        await asyncio.to_thread(postgres_cluster.start)
        await asyncio.gather(*(repository.add([request(number)]) for number in range(10)))
        assert len(await repository.newest("ann", 20)) == 10


@pytest.mark.slow
async def test_a_frozen_server_costs_no_more_than_the_time_limit(postgres_cluster: RunningCluster) -> None:
    await PiccoloMigrations(postgres_cluster.address.url).upgrade()
    repository = PiccoloGqlRequestRepository()
    async with pool_on(postgres_cluster.address, PICCOLO_DB_POOL_SIZE="2"):
        await repository.add([request(1)])
        with frozen(postgres_cluster):
            begun = time.monotonic()
            await assert_unavailable("no answer in time")
            assert time.monotonic() - begun < 3.5
        # No place of the pool is lost.
        await asyncio.gather(*(repository.add([request(number)]) for number in range(10)))
        assert len(await repository.newest("ann", 20)) == 10


async def test_a_service_starts_without_its_database(unused_tcp_port: int) -> None:
    address = PostgresAddress("127.0.0.1", unused_tcp_port, "u", "x", "p")
    async with pool_on(address):
        await assert_unavailable("Connect call failed")


async def test_of_several_hosts_one_that_answers_is_used(database: PostgresAddress, unused_tcp_port: int) -> None:
    ports = f"{unused_tcp_port},{database.port}"
    async with pool_on(database, PICCOLO_DB_HOST=f"{database.host},{database.host}", PICCOLO_DB_PORT=ports):
        await PiccoloGqlRequestRepository().add([request(1)])


async def test_of_several_hosts_a_standby_is_not_used(postgres_cluster: RunningCluster) -> None:
    """It answers, and takes no writes."""
    await asyncio.to_thread(restart_as_standby, postgres_cluster)
    standby = postgres_cluster.address
    async with pool_on(
        standby, PICCOLO_DB_HOST="127.0.0.1,127.0.0.1", PICCOLO_DB_PORT=f"{standby.port},{standby.port}"
    ):
        await assert_unavailable("TargetServerAttributeNotMatched")


def restart_as_standby(server: RunningCluster) -> None:
    server.stop()
    (server.cluster.data / "standby.signal").touch()
    server.start()


async def test_the_pool_holds_no_more_connections_than_it_may(database: PostgresAddress) -> None:
    async with pool_on(database, PICCOLO_DB_POOL_SIZE="2"):
        await asyncio.gather(*(DB.run_ddl("SELECT pg_sleep(0.05)") for _ in range(8)))
        with psycopg.connect(database.url) as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'throttling_sequencer'"
            assert connection.execute(query).fetchone() == (2,)


@pytest.mark.slow
@pytest.mark.unguarded("pool_slots", reason="a pool is cut off while somebody has a connection of it")
async def test_a_pool_that_is_in_use_is_cut_off_when_it_is_stopped(database: PostgresAddress) -> None:
    async with pool_on(database):
        assert DB.pool is not None
        sleeping = asyncio.create_task(DB.pool.fetch("SELECT pg_sleep(30)", timeout=60))
        await asyncio.sleep(0.2)
        begun = time.monotonic()
    assert time.monotonic() - begun < 3.0
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
        await sleeping


def test_importing_connects_to_nothing() -> None:
    environment = clean_environment(PICCOLO_DB_HOST="10.255.255.1", PICCOLO_CONF="")
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EVERY_MODULE],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "throttling_sequencer.infrastructure.db.piccolo_conf" in done.stdout
    assert time.monotonic() - begun < 5.0
