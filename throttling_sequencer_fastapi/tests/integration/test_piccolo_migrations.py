"""Piccolo's migrations: in this process, on their own connection, each of them whole or not at all."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import asyncpg
import psycopg
import pytest
from api_server.database.alembic_manager import AlembicManager
from api_server.database.migration_backend import (
    BASE,
    MigrationError,
    RevisionError,
    downgrade_to,
    unknown_migrations,
    upgrade_all,
)
from api_server.exceptions import StartError
from api_server.local.postgres import PostgresAddress
from api_server.testing import clean_environment, fresh_database
from older_postgres import older_postgres
from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.apps.migrations.commands.new import AutoMigrationManager
from piccolo_database import piccolo_environment, pool_on
from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.infrastructure.db import piccolo_conf, piccolo_migrations
from throttling_sequencer.infrastructure.db.piccolo_migrations import PiccoloMigrations
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.bounded_migration import bounded_migration
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.piccolo_app import APP_CONFIG
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.tables import GqlRequestInfo

DISTRIBUTION = Path(__file__).parents[2]
ALL = [
    "2026-11-25T16:50:50:923447",
    "2026-11-25T17:05:12:310268",
    "2026-11-27T10:05:31:482117",
    "2026-11-27T10:06:02:907344",
]
UPGRADE = """
import asyncio, sys
from api_server.database.migration_backend import upgrade_all
from throttling_sequencer.infrastructure.db.piccolo_migrations import PiccoloMigrations
applied = asyncio.run(upgrade_all([PiccoloMigrations(sys.argv[1])], sys.argv[1]))
print(applied.get("piccolo", []), file=sys.stderr)
"""
PENDING = """
import asyncio, sys
from throttling_sequencer.infrastructure.db import piccolo_migrations
print(piccolo_migrations.__file__)
print(asyncio.run(piccolo_migrations.PiccoloMigrations(sys.argv[1]).pending()))
"""
COLUMNS = """
    SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns
    WHERE table_schema = 'throttling_sequencer' AND table_name = 'gql_request_info' ORDER BY ordinal_position
"""


AddMigration = Callable[..., None]


@pytest.fixture(scope="module")
def older_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresAddress]:
    with older_postgres(tmp_path_factory.mktemp("older") / "postgres") as address:
        yield address


@pytest.fixture(params=["postgres", pytest.param("older_server", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest) -> Iterator[PostgresAddress]:
    """An empty database on each major version."""
    with fresh_database(request.getfixturevalue(request.param)) as address:
        yield address


@pytest.fixture
def other_database(postgres: PostgresAddress) -> Iterator[PostgresAddress]:
    with fresh_database(postgres) as address:
        yield address


@pytest.fixture
def url(postgres: PostgresAddress) -> Iterator[str]:
    with fresh_database(postgres) as address:
        yield address.url


def rows(url: str, query: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def relations(url: str) -> set[str]:
    """Return the tables, indexes and sequences that are not PostgreSQL's own."""
    query = """
        SELECT relnamespace::regnamespace || '.' || relname FROM pg_class
        WHERE relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    """
    return {name for (name,) in rows(url, query)}


async def test_an_empty_database_is_migrated_once(database: PostgresAddress) -> None:
    backend = PiccoloMigrations(database.url)
    assert await backend.pending() == ALL
    assert await upgrade_all([backend], database.url) == {"piccolo": ALL}
    assert await backend.pending() == []
    assert await upgrade_all([backend], database.url) == {}
    assert relations(database.url) == {
        "throttling_sequencer.gql_request_info",
        "throttling_sequencer.gql_request_info_pkey",
        "throttling_sequencer.gql_request_info_unix_time",
        "throttling_sequencer.gql_request_info_user_id_operation_id",
        "throttling_sequencer.migration",
        "throttling_sequencer.migration_id_seq",
        "throttling_sequencer.migration_pkey",
        "throttling_sequencer.plan",
        "throttling_sequencer.plan_owner_id_id",
        "throttling_sequencer.plan_owner_id_key",
        "throttling_sequencer.plan_pkey",
    }


async def test_asking_what_is_pending_changes_nothing(url: str) -> None:
    await PiccoloMigrations(url).pending()
    assert relations(url) == set()
    schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'throttling_sequencer'"
    assert rows(url, schemas) == [(0,)]


def test_of_two_processes_at_once_one_migrates(database: PostgresAddress) -> None:
    command = [sys.executable, "-W", "error", "-c", UPGRADE, database.url]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=60)[1].splitlines()[-1] for process in processes]
    assert sorted(answers) == sorted([str(ALL), "[]"])
    assert rows(database.url, "SELECT count(*) FROM throttling_sequencer.migration") == [(len(ALL),)]


async def test_the_table_has_the_columns_of_its_class(
    database: PostgresAddress, other_database: PostgresAddress
) -> None:
    await PiccoloMigrations(database.url).upgrade()
    async with pool_on(other_database):
        await GqlRequestInfo.create_table()
    assert rows(database.url, COLUMNS) == rows(other_database.url, COLUMNS) != []


async def test_piccolo_itself_finds_no_difference() -> None:
    with patch.object(sys, "path", sys.path.copy()), patch.dict(sys.modules):
        statements = await AutoMigrationManager().get_alter_statements(APP_CONFIG)
    assert [statement for found in statements for statement in found.statements] == []


@pytest.mark.slow
def test_piccolos_own_command_goes_back_and_forth(database: PostgresAddress) -> None:
    assert asyncio.run(upgrade_all([PiccoloMigrations(database.url)], database.url))
    piccolo(database, "backwards", "throttling_sequencer", "all", "--auto_agree")
    assert asyncio.run(PiccoloMigrations(database.url).pending()) == ALL
    assert "throttling_sequencer.gql_request_info" not in relations(database.url)
    piccolo(database, "forwards", "throttling_sequencer")
    assert asyncio.run(PiccoloMigrations(database.url).pending()) == []


def piccolo(database: PostgresAddress, *arguments: str) -> None:
    environment = clean_environment(PICCOLO_CONF=piccolo_conf.__name__, **piccolo_environment(database))
    command: list[str | Path] = [Path(sys.executable).with_name("piccolo"), "migrations", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def test_what_was_applied_after_a_migration_is_reverted_with_its_record(database: PostgresAddress) -> None:
    backend = PiccoloMigrations(database.url)
    await backend.upgrade()
    everything = relations(database.url)
    assert await downgrade_to(ALL[1], backend, database.url) == ALL[:1:-1]
    assert {name for name in relations(database.url) if ".plan" in name} == set()
    await backend.upgrade()
    assert relations(database.url) == everything
    await downgrade_to(ALL[1], backend, database.url)
    everything = relations(database.url)
    assert await downgrade_to(ALL[0], backend, database.url) == ALL[1:2]
    assert await backend.applied() == ALL[:1]
    assert everything - relations(database.url) == {"throttling_sequencer.gql_request_info_user_id_operation_id"}
    assert await downgrade_to(BASE, backend, database.url) == ALL[:1]
    assert "throttling_sequencer.gql_request_info" not in relations(database.url)
    assert await backend.applied() == []
    await backend.upgrade()
    assert relations(database.url) > everything


async def test_a_target_that_is_not_applied_reverts_nothing(url: str) -> None:
    backend = PiccoloMigrations(url)
    await backend.upgrade()
    with pytest.raises(ValueError, match=r"^9999 is no migration that is applied"):
        await backend.downgrade("9999")
    assert await backend.applied() == ALL


async def test_what_a_newer_release_applied_is_not_reverted(url: str) -> None:
    backend = PiccoloMigrations(url)
    await backend.upgrade()
    connection = await asyncpg.connect(url)
    await connection.execute(
        "INSERT INTO throttling_sequencer.migration (name, app_name, ran_on) "
        "VALUES ('9999', 'throttling_sequencer', now())"
    )
    await connection.close()
    with pytest.raises(ValueError, match="A newer release has applied 9999, and only that one can revert it"):
        await backend.downgrade(BASE)
    assert await backend.applied() == [*ALL, "9999"]
    assert await unknown_migrations([backend]) == {"piccolo": ["9999"]}


async def test_each_migration_begins_by_limiting_itself(url: str) -> None:
    connection = await asyncpg.connect(url)
    for module in piccolo_migrations._history():
        manager = await module.forwards()
        for first in (manager.raw[0], manager.raw_backwards[0]):
            async with connection.transaction():
                with piccolo_migrations._piccolo_on(connection):
                    await first()
                assert await connection.fetchval("SHOW lock_timeout") == "5s"
                assert await connection.fetchval("SHOW statement_timeout") == "1min"
    await connection.close()


async def test_what_comes_before_a_migrations_own_limits_is_limited_too(url: str) -> None:
    async with piccolo_migrations._connected(url) as connection:
        assert await connection.fetchval("SHOW lock_timeout") == "5s"
        assert await connection.fetchval("SHOW statement_timeout") == "1min"


@pytest.fixture
def restricted_url(url: str) -> Iterator[str]:
    """Connect as a role that may do everything in the schemas that are there, and create none."""
    role = f"role_{url.rpartition('/')[2]}"
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'its-own'".encode())
        for schema in ("api_server", "throttling_sequencer"):
            owner.execute(f"CREATE SCHEMA {schema}".encode())
            owner.execute(f"GRANT ALL ON SCHEMA {schema} TO {role}".encode())
    yield f"postgresql://{role}:its-own@{url.partition('@')[2]}"
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f"DROP OWNED BY {role}".encode())
        owner.execute(f"DROP ROLE {role}".encode())


async def test_a_role_that_may_create_no_schema_migrates_those_that_are_there(restricted_url: str) -> None:
    alembic, piccolo = AlembicManager(restricted_url), PiccoloMigrations(restricted_url)
    assert (await upgrade_all([alembic, piccolo], restricted_url))["piccolo"] == ALL
    assert await downgrade_to(BASE, piccolo, restricted_url) == ALL[::-1]


_STARTED = b"".join(
    kind + (len(said) + 4).to_bytes(4, "big") + said
    for kind, said in ((b"R", bytes(4)), (b"S", b"server_version\00017.0\0"), (b"K", bytes(8)), (b"Z", b"I"))
)


async def test_a_server_that_falls_silent_once_connected_is_a_database_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(piccolo_migrations, "_CLOSE_TIMEOUT_S", 0.05)

    serving: list[asyncio.Task[None]] = []

    async def fall_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            writer.write(_STARTED)
            await reader.read()
            writer.close()
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.create_task(fall_silent(reader, writer)))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        url = f"postgresql://u:p@127.0.0.1:{server.sockets[0].getsockname()[1]}/x?sslmode=disable"
        backend = PiccoloMigrations(url, read_timeout=0.1)
        reads = (backend.pending, backend.applied, backend.unknown)
        for asked in (*reads, backend.upgrade, lambda: backend.downgrade(BASE)):
            async with asyncio.timeout(2):
                with pytest.raises(StorageUnavailableError) as caught:
                    await asked()
            assert caught.value.reason == "no answer in time"
        await asyncio.gather(*serving)


async def test_a_connection_that_is_lost_midway_is_a_database_that_is_away(
    url: str, add_migration: AddMigration
) -> None:
    add_migration("CREATE TABLE half ()", "SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(MigrationError, match=r"9999 cannot be applied: .*terminating connection") as caught:
        await upgrade_all([PiccoloMigrations(url)], url)
    assert isinstance(caught.value.__cause__, StorageUnavailableError)
    assert await PiccoloMigrations(url).pending() == ["9999"]


async def test_a_migration_without_a_transaction_has_its_own_limits(url: str, add_migration: AddMigration) -> None:
    add_migration("CREATE TABLE limits AS SELECT current_setting('statement_timeout')", wrap_in_transaction=False)
    await PiccoloMigrations(url).upgrade()
    assert rows(url, "SELECT * FROM limits") == [("2s",)]


@pytest.fixture
def add_migration(monkeypatch: pytest.MonkeyPatch) -> AddMigration:
    """Give a function that appends a migration of raw SQL to the history."""
    history = piccolo_migrations._history()

    def add(*statements: str, back: tuple[str, ...] = (), **attributes: bool) -> None:
        async def run() -> None:
            for statement in statements:
                await DB.run_ddl(statement)

        async def run_back() -> None:
            for statement in back:
                await DB.run_ddl(statement)

        async def forwards() -> MigrationManager:
            manager = bounded_migration("9999", "one of the test's own", lock_timeout="100ms", statement_timeout="2s")
            manager.add_raw(run)
            manager.add_raw_backwards(run_back)
            for name, value in attributes.items():
                setattr(manager, name, value)
            return manager

        modules = [*history, SimpleNamespace(ID="9999", forwards=forwards)]
        monkeypatch.setattr(piccolo_migrations, "_history", lambda: modules)

    return add


async def test_a_migration_whose_way_back_fails_stays_applied(url: str, add_migration: AddMigration) -> None:
    add_migration("CREATE TABLE made ()", back=("DROP TABLE made", "SELECT 1/0"))
    backend = PiccoloMigrations(url)
    await backend.upgrade()
    with pytest.raises(RevisionError, match=r"^9999 cannot be reverted: division by zero$"):
        await backend.downgrade(BASE)
    assert await backend.applied() == [*ALL, "9999"]
    assert "public.made" in relations(url)


async def test_going_back_gives_up_on_a_table_that_is_in_use(url: str, add_migration: AddMigration) -> None:
    add_migration(back=("LOCK TABLE throttling_sequencer.gql_request_info",))
    await PiccoloMigrations(url).upgrade()
    with psycopg.connect(url) as user:
        user.execute("SELECT * FROM throttling_sequencer.gql_request_info")
        with pytest.raises(RevisionError, match="9999 cannot be reverted: canceling statement due to lock timeout"):
            await PiccoloMigrations(url).downgrade(ALL[-1])
    await PiccoloMigrations(url).downgrade(ALL[-1])
    assert await PiccoloMigrations(url).applied() == ALL


async def test_a_migration_that_fails_leaves_nothing_and_those_before_it_stay(
    url: str, add_migration: AddMigration
) -> None:
    add_migration("CREATE TABLE half ()", "SELECT 1/0")
    with pytest.raises(MigrationError, match=r"^The piccolo migrations failed: 9999 cannot be applied: division"):
        await upgrade_all([PiccoloMigrations(url)], url)
    assert await PiccoloMigrations(url).pending() == ["9999"]
    assert "public.half" not in relations(url)


async def test_the_first_migration_fails_without_a_trace(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(manager: MigrationManager) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(MigrationManager, "run", fail)
    with pytest.raises(RevisionError, match=f"^{ALL[0]} cannot be applied: ZeroDivisionError$"):
        await PiccoloMigrations(url).upgrade()
    assert relations(url) == set()


async def test_a_commit_that_fails_leaves_nothing_behind_in_this_process_either(
    url: str, add_migration: AddMigration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PICCOLO_CONF", "somebody_elses.piccolo_conf")
    add_migration(
        "CREATE TABLE parent (id integer PRIMARY KEY)",
        "CREATE TABLE child (id integer REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO child VALUES (1)",
    )
    before = (sys.path.copy(), sys.stdout)
    with pytest.raises(RevisionError, match=r"9999 cannot be applied: .* violates foreign key constraint"):
        await PiccoloMigrations(url).upgrade()
    assert await PiccoloMigrations(url).pending() == ["9999"]
    assert "public.parent" not in relations(url)
    assert not DB.transaction_exists()
    assert os.environ["PICCOLO_CONF"] == "somebody_elses.piccolo_conf"
    assert (sys.path, sys.stdout) == before
    await retried(lambda: sessions(url) == 0)


def sessions(url: str) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'throttling_sequencer migrations'"
    return int(rows(url, query)[0][0])


async def retried(holds: Callable[[], bool]) -> None:
    """The server notices a moment later that a connection is closed."""
    async with asyncio.timeout(3):
        while not holds():
            await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_a_statement_does_not_outlive_its_process_for_long(url: str) -> None:
    """Whoever gets the lock next would meet it."""
    async with piccolo_migrations._connected(url) as connection:
        running = asyncio.create_task(connection.execute("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.1)
        connection.terminate()
        with pytest.raises(asyncpg.ConnectionDoesNotExistError):
            await running
    await retried(lambda: sessions(url) == 0)


async def test_a_migration_may_go_without_a_transaction(url: str, add_migration: AddMigration) -> None:
    """An index that is built concurrently cannot do with one."""
    add_migration(
        "CREATE INDEX CONCURRENTLY later ON throttling_sequencer.gql_request_info (outcome)", wrap_in_transaction=False
    )
    await upgrade_all([PiccoloMigrations(url)], url)
    assert "throttling_sequencer.later" in relations(url)
    assert await PiccoloMigrations(url).pending() == []


async def test_a_migration_that_is_declared_done_is_recorded_only(url: str, add_migration: AddMigration) -> None:
    add_migration("CREATE TABLE real ()", fake=True)
    await PiccoloMigrations(url).upgrade()
    assert await PiccoloMigrations(url).pending() == []
    assert "public.real" not in relations(url)


async def test_a_migration_gives_up_on_a_table_that_is_in_use(url: str, add_migration: AddMigration) -> None:
    await PiccoloMigrations(url).upgrade()
    add_migration("LOCK TABLE throttling_sequencer.gql_request_info")
    with psycopg.connect(url) as user:
        user.execute("SELECT * FROM throttling_sequencer.gql_request_info")
        with pytest.raises(MigrationError, match="9999 cannot be applied: canceling statement due to lock") as caught:
            await upgrade_all([PiccoloMigrations(url)], url)
        assert isinstance(caught.value.__cause__, RevisionError)
    await PiccoloMigrations(url).upgrade()


async def test_the_pool_plays_no_part(url: str, other_database: PostgresAddress) -> None:
    async with pool_on(other_database):
        await PiccoloMigrations(url).upgrade()
        assert DB.pool is not None
        assert DB.pool.get_size() == 0
    assert relations(other_database.url) == set()
    assert "throttling_sequencer.gql_request_info" in relations(url)


async def test_it_says_nothing_and_leaves_no_trace_in_the_process(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    paths = sys.path.copy()
    await PiccoloMigrations(url).upgrade()
    assert capfd.readouterr() == ("", "")
    assert sys.path == paths
    assert not [name for name in sys.modules if name.startswith("throttling_sequencer_2")]


@pytest.mark.parametrize(
    "query",
    [
        "?connect_timeout=3&keepalives_idle=10&tcp_user_timeout=1000&sslmode=disable",
        "?options=-c%20search_path%3Dpublic&target_session_attrs=read-write&channel_binding=prefer",
    ],
)
async def test_a_url_may_say_whatever_libpq_understands(url: str, query: str) -> None:
    url = url.replace("postgresql://", "postgresql+psycopg://") + query
    assert await upgrade_all([PiccoloMigrations(url)], url) == {"piccolo": ALL}


@pytest.mark.parametrize("url", ["postgresql://u:p@x:hush@127.0.0.1/x", "postgresql://u:hush℀@127.0.0.1/x"])
async def test_a_url_that_cannot_be_read_is_not_repeated(url: str) -> None:
    with pytest.raises(MigrationError, match="The database's URL cannot be read") as caught:
        await upgrade_all([PiccoloMigrations(url)], url)
    assert "hush" not in str(caught.value)
    assert isinstance(caught.value.__cause__, StartError)


def test_an_installed_wheel_has_them_too(url: str, tmp_path: Path) -> None:
    build: list[str | Path] = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(build, cwd=DISTRIBUTION, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, installed], check=True)
    environment = clean_environment(PYTHONPATH=str(installed))
    command = [sys.executable, "-c", PENDING, url]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    where, pending = done.stdout.splitlines()
    assert Path(where).is_relative_to(installed)
    assert pending == str(ALL)
