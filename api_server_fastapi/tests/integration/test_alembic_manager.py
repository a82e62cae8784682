"""Alembic's migrations: in this process, in a thread, each of them whole or not at all, and never left behind."""

import ast
import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest
from api_server.checks.database_schema_check import DatabaseSchemaCheck
from api_server.database.advisory_lock import AdvisoryLock, PoolerRefusedError, try_advisory_lock
from api_server.database.alembic_manager import AlembicManager, SchemaError, SchemaState
from api_server.database.conninfo import UnreadableUrlError
from api_server.database.migration_backend import (
    MigrationError,
    RevisionError,
    downgrade_to,
    pending_migrations,
    upgrade_all,
)
from api_server.exceptions import DatabaseUnavailableError, StartError
from api_server.local.postgres import PostgresAddress
from api_server.models.db_model import FoundationTable
from api_server.readiness_pipeline import CheckStatus
from api_server.settings import get_settings
from api_server.testing import RunningCluster, clean_environment, fresh_database
from frozen_server import frozen
from older_postgres import older_postgres
from planted_migrations import PlantedMigrations, executed, locks, relations, rows, sessions, unwrapped
from proxies import tcp_proxy
from sqlalchemy import Column, Integer, MetaData, Table
from sqlalchemy.types import UserDefinedType
from sqlmodel import Field, SQLModel
from structlog.testing import capture_logs

FIRST = "20261127_presets"
TABLES = {
    "api_server.alembic_version",
    "api_server.alembic_version_pkc",
    "api_server.ix_presets_owner_id_kind_id",
    "api_server.pk_presets",
    "api_server.presets",
    "api_server.uq_presets_default_kind",
    "api_server.uq_presets_owner_id_kind_name",
}
CREATE = executed("CREATE TABLE planted.things (id integer)")
DROP = executed("DROP TABLE planted.things")
SLOW = executed("CREATE TABLE planted.half ()", "SELECT pg_sleep(30)")


@pytest.fixture(scope="module")
def older_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresAddress]:
    with older_postgres(tmp_path_factory.mktemp("older") / "postgres") as address:
        yield address


@pytest.fixture
def url(postgres: PostgresAddress) -> Iterator[str]:
    with fresh_database(postgres) as address:
        yield address.url


@pytest.fixture
def other_url(postgres: PostgresAddress) -> Iterator[str]:
    with fresh_database(postgres) as address:
        yield address.url


@pytest.fixture(params=["postgres", pytest.param("older_server", marks=pytest.mark.slow)])
def either_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database on each major version."""
    with fresh_database(request.getfixturevalue(request.param)) as address:
        yield address.url


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlantedMigrations]:
    package = f"planted_{tmp_path.name}"
    monkeypatch.syspath_prepend(tmp_path)
    yield PlantedMigrations(tmp_path, package)
    sys.modules.pop(package, None)


@pytest.fixture(autouse=True)
def no_session_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Look at the end of each test whether the server still does something for it."""
    names = {"url", "either_url"} & set(request.fixturenames)
    url = request.getfixturevalue(names.pop()) if names else None
    yield
    deadline = time.monotonic() + 3
    # The server notices a moment later that a connection is closed.
    while url and sessions(url):
        assert time.monotonic() < deadline, "a connection was left"
        time.sleep(0.02)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.02)


def runs(url: str, part: str) -> bool:
    """Whether the server executes a statement of a migration that has this in it."""
    query = """
        SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'api_server migrations' AND state = 'active'
        AND query LIKE %s AND datname = current_database()
    """
    return bool(rows(url, query, [f"%{part}%"])[0][0])


def test_an_empty_database_is_migrated_once(either_url: str) -> None:
    backend = AlembicManager(either_url)
    assert backend.perform_migration() == {"alembic": [FIRST]}
    assert relations(either_url) == TABLES
    assert backend.perform_migration() == {}
    assert backend.validate_schema_state() == SchemaState((FIRST,), (), ())


def test_asking_changes_nothing(url: str) -> None:
    backend = AlembicManager(url)
    assert backend.validate_schema_state() == SchemaState((), (FIRST,), ())
    assert asyncio.run(backend.applied()) == []
    assert asyncio.run(backend.pending()) == [FIRST]
    assert backend.differences()[0] == "add_table api_server.presets"
    assert relations(url) == set()


def test_the_tables_are_as_the_models_are(either_url: str) -> None:
    backend = AlembicManager(either_url)
    backend.perform_migration()
    assert backend.differences() == []


def test_a_model_that_no_migration_follows_is_seen(url: str) -> None:
    changed = MetaData(schema="api_server", naming_convention=FoundationTable.metadata.naming_convention)
    table = FoundationTable.metadata.tables["api_server.presets"].to_metadata(changed)
    table.append_column(Column("stars", Integer))
    table.columns["name"].nullable = True
    AlembicManager(url).perform_migration()
    assert AlembicManager(url, metadata=changed).differences() == [
        "add_column api_server presets stars",
        "modify_nullable api_server presets name False True",
    ]


@pytest.mark.parametrize(
    ("statement", "difference"),
    [
        ("DROP INDEX api_server.uq_presets_default_kind", "add_index uq_presets_default_kind"),
        (
            "ALTER TABLE api_server.presets DROP CONSTRAINT ck_presets_version_is_positive",
            "add_constraint ck_presets_version_is_positive",
        ),
        pytest.param(
            "ALTER TABLE api_server.presets DROP CONSTRAINT uq_presets_owner_id_kind_name",
            "add_constraint uq_presets_owner_id_kind_name",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "ALTER TABLE api_server.presets ALTER version TYPE bigint",
            "modify_type api_server presets version",
            marks=pytest.mark.slow,
        ),
        pytest.param("CREATE TABLE api_server.others ()", "remove_table api_server.others", marks=pytest.mark.slow),
    ],
)
def test_a_table_that_somebody_changed_is_seen(url: str, statement: Any, difference: str) -> None:
    backend = AlembicManager(url)
    backend.perform_migration()
    with psycopg.connect(url) as connection:
        connection.execute(statement)
    (found,) = backend.differences()
    assert found.startswith(difference)


def test_tables_of_others_are_no_difference(url: str) -> None:
    backend = AlembicManager(url)
    backend.perform_migration()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE others ()")
        connection.execute("CREATE SCHEMA others")
        connection.execute("CREATE TABLE others.presets ()")
    assert backend.differences() == []


def test_each_revision_can_be_reverted_and_applied_again(either_url: str) -> None:
    backend = AlembicManager(either_url)
    revisions = backend.validate_schema_state().pending
    for number, revision in enumerate(revisions, 1):
        before = relations(either_url)
        asyncio.run(backend._step_through([revision], is_upgrade=True))
        after = relations(either_url)
        previous = revisions[number - 2] if number > 1 else "base"
        asyncio.run(backend.downgrade(previous))
        assert relations(either_url) - before <= {"api_server.alembic_version", "api_server.alembic_version_pkc"}
        asyncio.run(backend._step_through([revision], is_upgrade=True))
        assert relations(either_url) == after
    assert backend.validate_schema_state() == SchemaState(revisions, (), ())
    assert backend.differences() == []
    asyncio.run(backend.downgrade("base"))
    # The schema may be somebody else's, or have rights that were granted; its record is empty.
    assert relations(either_url) == {"api_server.alembic_version", "api_server.alembic_version_pkc"}
    assert rows(either_url, "SELECT * FROM api_server.alembic_version") == []


def test_a_downgrade_stops_at_its_target_and_tells_what_was_reverted(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", CREATE, DROP)
    planted.add("two", executed("ALTER TABLE planted.things ADD a text"), executed("ALTER TABLE planted.things DROP a"))
    planted.add(
        "three", executed("ALTER TABLE planted.things ADD b text"), executed("ALTER TABLE planted.things DROP b")
    )
    backend = planted.manager(url)
    backend.perform_migration()
    with capture_logs() as logs:
        assert asyncio.run(downgrade_to("one", backend, url)) == ["three", "two"]
    assert [(line["event"], line["migrations"]) for line in logs] == [("migrations reverted", ["three", "two"])]
    assert backend.validate_schema_state() == SchemaState(("one",), ("two", "three"), ())
    assert asyncio.run(downgrade_to("one", backend, url)) == []
    assert backend.perform_migration() == {"planted": ["two", "three"]}
    assert asyncio.run(downgrade_to("base", backend, url)) == ["three", "two", "one"]
    assert "planted.things" not in relations(url)


@pytest.mark.parametrize("target", ["head", "on"])
def test_a_target_that_is_not_applied_reverts_nothing(url: str, planted: PlantedMigrations, target: str) -> None:
    planted.add("one", CREATE, DROP)
    backend = planted.manager(url)
    backend.perform_migration()
    with pytest.raises(ValueError, match=f"^{target} is no migration that is applied"):
        asyncio.run(backend.downgrade(target))
    with pytest.raises(MigrationError, match=f"^The planted migrations failed: {target} is no migration"):
        asyncio.run(downgrade_to(target, backend, url))
    assert "planted.things" in relations(url)


def test_nothing_is_reverted_that_was_not_expected(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", CREATE, DROP)
    backend = planted.manager(url)
    backend.perform_migration()
    with pytest.raises(MigrationError, match="others are applied by now"):
        asyncio.run(downgrade_to("base", backend, url, expected=[]))
    assert backend.validate_schema_state().applied == ("one",)


def test_a_service_has_a_history_of_its_own_beside_the_foundations(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", CREATE)
    backends = [AlembicManager(url), planted.manager(url)]
    assert asyncio.run(upgrade_all(backends, url)) == {"alembic": [FIRST], "planted": ["one"]}
    assert rows(url, "SELECT * FROM planted.alembic_version") == [("one",)]
    assert rows(url, "SELECT * FROM api_server.alembic_version") == [(FIRST,)]
    assert AlembicManager(url).differences() == []


def test_an_error_in_the_first_migration_leaves_nothing(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", executed("CREATE TABLE planted.things ()", "SELECT 1/0"))
    with pytest.raises(MigrationError) as caught:
        planted.manager(url).perform_migration()
    assert str(caught.value) == "The planted migrations failed: one cannot be applied: division by zero"
    assert relations(url) == set()
    assert locks(url) == 0


def test_an_error_that_is_not_the_databases_leaves_nothing_either(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", f"{CREATE}\nraise LookupError('no such thing')")
    with pytest.raises(MigrationError, match=r"^The planted migrations failed: no such thing$"):
        planted.manager(url).perform_migration()
    assert relations(url) == set()


def test_an_error_leaves_what_was_applied_before(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", CREATE)
    planted.add("two", executed("ALTER TABLE planted.things ADD a text", "SELECT * FROM nowhere"))
    with pytest.raises(MigrationError, match='two cannot be applied: relation "nowhere" does not exist'):
        planted.manager(url).perform_migration()
    assert planted.manager(url).validate_schema_state() == SchemaState(("one",), ("two",), ())
    assert rows(url, "SELECT * FROM planted.things") == []


def test_a_downgrade_that_fails_leaves_the_migration_applied(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", CREATE, f"{DROP}\n{executed('SELECT 1/0')}")
    backend = planted.manager(url)
    backend.perform_migration()
    with pytest.raises(RevisionError, match="one cannot be reverted: division by zero"):
        asyncio.run(backend.downgrade("base"))
    assert backend.validate_schema_state().applied == ("one",)
    assert "planted.things" in relations(url)


LOCKING = "LOCK TABLE planted.things"
SHORT = {"lock_timeout": 0.2, "statement_timeout": 0.3}


@pytest.mark.parametrize(
    ("upgrade", "says"),
    [
        (executed(LOCKING), "two cannot be applied: canceling statement due to lock timeout"),
        (unwrapped("SELECT pg_sleep(9)"), "two cannot be applied: canceling statement due to statement timeout"),
        pytest.param(
            unwrapped("DROP TABLE planted.things"),
            "two cannot be applied: canceling statement due to lock timeout",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            executed("SELECT pg_sleep(9)"),
            "two cannot be applied: canceling statement due to statement timeout",
            marks=pytest.mark.slow,
        ),
        # What an earlier migration said of its transaction, or of its session, does not outlast it.
        pytest.param(
            executed("SET LOCAL lock_timeout = '0.1s'", LOCKING),
            "two cannot be applied: canceling statement due to lock",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_migration_waits_for_a_bounded_time(url: str, planted: PlantedMigrations, upgrade: str, says: str) -> None:
    planted.add("one", f"{CREATE}\n{executed('SET lock_timeout = 0', 'SET LOCAL statement_timeout = 0')}")
    planted.manager(url).perform_migration()
    planted.add("two", upgrade)
    with psycopg.connect(url) as user:
        user.execute("SELECT * FROM planted.things")
        begun = time.monotonic()
        with pytest.raises(MigrationError, match=says) as caught:
            planted.manager(url, **SHORT).perform_migration()
        assert time.monotonic() - begun < 2
    assert not isinstance(caught.value.__cause__, DatabaseUnavailableError)
    with try_advisory_lock(AdvisoryLock.MIGRATION, url) as held:
        assert held


def test_a_downgrade_waits_for_a_bounded_time(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", CREATE, DROP)
    backend = planted.manager(url, **SHORT)
    backend.perform_migration()
    with psycopg.connect(url) as user:
        user.execute("SELECT * FROM planted.things")
        with pytest.raises(MigrationError, match="one cannot be reverted: canceling statement due to lock timeout"):
            asyncio.run(downgrade_to("base", backend, url))


def test_the_limits_are_five_seconds_and_a_minute_unless_a_migration_says_else(
    url: str, planted: PlantedMigrations
) -> None:
    note = "INSERT INTO planted.limits SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
    planted.add("one", executed("CREATE TABLE planted.limits (a text, b text)", note, "SET lock_timeout = '7s'", note))
    planted.add("two", unwrapped(note))
    planted.add("three", executed("SET LOCAL statement_timeout = '9s'", note), executed(note))
    backend = planted.manager(url)
    backend.perform_migration()
    asyncio.run(backend.downgrade("two"))
    assert rows(url, "SELECT * FROM planted.limits") == [
        ("5s", "1min"),
        ("7s", "1min"),
        ("5s", "1min"),
        ("5s", "9s"),
        ("5s", "1min"),
    ]


async def test_who_is_cancelled_leaves_nothing_behind(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", SLOW)
    task = asyncio.create_task(upgrade_all([planted.manager(url)], url))
    await until(lambda: runs(url, "pg_sleep"))
    begun = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begun < 1
    assert await asyncio.to_thread(relations, url) == set()
    await until(lambda: sessions(url) == 0)


async def test_who_is_cancelled_again_and_again_still_waits_for_the_thread(
    url: str, planted: PlantedMigrations
) -> None:
    """The lock would be given up while somebody migrates."""
    planted.add("one", f"import time\n{CREATE}\nop.execute('SELECT pg_sleep(0.01)')\ntime.sleep(0.6)\n")
    finished = Path(planted.versions, "finished")
    backend = planted.manager(url)
    work = backend._step
    backend._step = lambda *args, **options: _and_then(finished.touch, work, *args, **options)  # type: ignore[method-assign]  # to see the end of the thread
    task = asyncio.create_task(backend.upgrade())
    await until(lambda: bool(rows(url, "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(0.01)'")))
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0.05)
    assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(finished.exists)
    assert await asyncio.to_thread(relations, url) == set()


def _and_then(last: Callable[[], None], work: Callable[..., None], *args: Any, **options: Any) -> None:
    try:
        work(*args, **options)
    finally:
        last()


async def test_no_statement_follows_a_cancellation(url: str, planted: PlantedMigrations) -> None:
    """A migration between two statements has none that the server could cancel."""
    planted.add(
        "one", f"import time\n{CREATE}\nfor _ in range(1000):\n    time.sleep(0.02)\n    op.execute('SELECT 7')"
    )
    task = asyncio.create_task(planted.manager(url).upgrade())
    await until(lambda: bool(rows(url, "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT 7'")))
    begun = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begun < 1
    assert await asyncio.to_thread(relations, url) == set()


async def test_the_event_loop_goes_on_while_a_migration_runs(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", executed("SELECT pg_sleep(0.35)"))
    task = asyncio.create_task(planted.manager(url).upgrade())
    longest = 0.0
    while not task.done():
        begun = time.perf_counter()
        await asyncio.sleep(0.01)
        longest = max(longest, time.perf_counter() - begun)
    await task
    assert longest < 0.3


@pytest.mark.slow
async def test_two_migrate_two_databases_in_one_process_at_once(
    url: str, other_url: str, planted: PlantedMigrations
) -> None:
    planted.add("one", f"{CREATE}\n{executed('SELECT pg_sleep(0.2)')}")
    await asyncio.gather(planted.manager(url).upgrade(), planted.manager(other_url).upgrade())
    for address in (url, other_url):
        assert (await planted.manager(address).pending(), await planted.manager(address).applied()) == ([], ["one"])


async def test_who_waits_for_another_thread_of_this_process_can_be_cancelled(
    url: str, planted: PlantedMigrations
) -> None:
    planted.add("one", executed("SELECT pg_sleep(30)"))
    first = asyncio.create_task(planted.manager(url).upgrade())
    await until(lambda: runs(url, "pg_sleep"))
    second = asyncio.create_task(planted.manager(url).upgrade())
    await asyncio.sleep(0.3)
    for task in (second, first):
        task.cancel()
        begun = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - begun < 1


@pytest.mark.slow
@pytest.mark.unguarded(
    "descriptors", reason="psycopg's request to cancel what a frozen server does is closed when its error is collected"
)
async def test_a_frozen_server_does_not_hold_who_is_cancelled(
    postgres_cluster: RunningCluster, planted: PlantedMigrations
) -> None:
    url = postgres_cluster.address.url
    planted.add("one", executed("SELECT pg_sleep(30)"))
    task = asyncio.create_task(planted.manager(url).upgrade())
    await until(lambda: runs(url, "pg_sleep"))
    with frozen(postgres_cluster):
        task.cancel()
        async with asyncio.timeout(20):
            with pytest.raises(asyncio.CancelledError):
                await task
    await until(lambda: relations(url) == set())


async def test_a_database_that_is_away_is_recognised(unused_tcp_port: int) -> None:
    backend = AlembicManager(f"postgresql://u:hush-hush@127.0.0.1:{unused_tcp_port}/x")
    with pytest.raises(MigrationError, match=r"^The alembic migrations failed: connection failed") as caught:
        await pending_migrations([backend])
    assert isinstance(caught.value.__cause__, DatabaseUnavailableError)
    assert "hush" not in str(caught.value)
    with pytest.raises(DatabaseUnavailableError):
        await backend._step_through([FIRST], is_upgrade=True)


async def test_a_connection_that_is_lost_midway_is_a_database_that_is_away(
    url: str, planted: PlantedMigrations
) -> None:
    planted.add("one", SLOW)
    task = asyncio.create_task(upgrade_all([planted.manager(url)], url))
    await until(lambda: runs(url, "pg_sleep"))
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%%pg_sleep(30)' AND datname = %s"
    await asyncio.to_thread(rows, url, end, [url.rpartition("/")[2]])
    with pytest.raises(MigrationError, match="one cannot be applied: terminating connection") as caught:
        await task
    assert isinstance(caught.value.__cause__, DatabaseUnavailableError)
    assert await asyncio.to_thread(relations, url) == set()


async def test_a_database_that_takes_no_writes_is_away(url: str) -> None:
    read_only = AlembicManager(f"{url}?options=-c%20default_transaction_read_only%3Don")
    with pytest.raises(DatabaseUnavailableError) as caught:
        await read_only._step_through([FIRST], is_upgrade=True)
    assert "read-only transaction" in caught.value.reason


async def test_a_pooler_is_refused(postgres: PostgresAddress) -> None:
    async with tcp_proxy(postgres, invents_process_numbers=True) as pooler:
        backend = AlembicManager(pooler)
        with pytest.raises(PoolerRefusedError, match=r"is a connection pooler, .* set API_SERVER_DATABASE_URL to the"):
            await upgrade_all([backend], pooler)
        with pytest.raises(PoolerRefusedError, match=r"is a connection pooler, .* set API_SERVER_DATABASE_URL to the"):
            await backend.upgrade()
    assert await asyncio.to_thread(relations, postgres.url) == set()


@pytest.mark.parametrize("unreadable", ["postgresql://u:hush%zzhush@127.0.0.1/x", "postgresql://%zzhush"])
async def test_a_url_that_cannot_be_read_is_not_repeated(unreadable: str) -> None:
    backend = AlembicManager(unreadable)
    for coroutine in (backend.applied(), backend._step_through([FIRST], is_upgrade=True)):
        with pytest.raises(UnreadableUrlError) as caught:
            await coroutine
        error: BaseException | None = caught.value
        while error is not None:
            assert "hush" not in str(error)
            error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "query",
    [
        "?connect_timeout=3&keepalives_idle=10&sslmode=disable&target_session_attrs=read-write",
        "?options=-c%20search_path%3Dapi_server&application_name=mine",
    ],
)
def test_a_url_may_say_whatever_libpq_understands(url: str, query: str) -> None:
    backend = AlembicManager(url.replace("postgresql://", "postgresql+psycopg://") + query)
    assert backend.perform_migration() == {"alembic": [FIRST]}
    assert backend.differences() == []
    assert relations(url) == TABLES


@pytest.fixture
def _own_settings() -> Iterator[None]:
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.mark.usefixtures("_own_settings")
def test_without_a_url_the_setting_counts(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_SERVER_DATABASE_URL", url)
    assert AlembicManager().perform_migration() == {"alembic": [FIRST]}


@pytest.mark.usefixtures("_own_settings")
def test_without_either_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("API_SERVER_DATABASE_URL", raising=False)
    with pytest.raises(StartError, match="set API_SERVER_DATABASE_URL"):
        AlembicManager().validate_schema_state()


async def test_code_in_an_event_loop_is_sent_to_the_other_methods(url: str) -> None:
    backend = AlembicManager(url)
    with pytest.raises(RuntimeError, match="use perform_migration_async"):
        backend.perform_migration()
    with pytest.raises(RuntimeError, match="use validate_schema_state_async"):
        backend.validate_schema_state()
    assert await backend.perform_migration_async() == {"alembic": [FIRST]}
    assert (await backend.validate_schema_state_async()).pending == ()


def test_what_a_newer_release_applied_is_left_alone(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", CREATE, DROP)
    planted.add("two", executed("ALTER TABLE planted.things ADD a text"))
    planted.manager(url).perform_migration()
    planted.forget("two")
    older = planted.manager(url)
    with capture_logs() as logs:
        assert older.validate_schema_state() == SchemaState(("one",), (), ("two",))
        assert older.perform_migration() == {}
        assert asyncio.run(older.applied()) == ["one", "two"]
    assert logs == [
        {
            "event": "migrations of a newer release are applied",
            "log_level": "warning",
            "backend": "planted",
            "migrations": ["two"],
        }
    ]
    with pytest.raises(SchemaError, match="A newer release has applied two, and only that one can revert it"):
        asyncio.run(older.downgrade("one"))
    assert rows(url, "SELECT * FROM planted.alembic_version") == [("two",)]


async def test_a_release_before_the_tables_is_ready_and_warns(url: str, planted: PlantedMigrations) -> None:
    """After a rollback it works; where the tables are not those of the record, the warning is what tells of it."""
    planted.add("one", CREATE)
    backend = planted.manager(url)
    await backend.upgrade()
    check = DatabaseSchemaCheck([AlembicManager(url, package=planted.package, metadata=backend._metadata()), backend])
    assert (await check.run()).status is CheckStatus.SUCCESS
    planted.forget("one")
    planted.add("other", CREATE)
    result = await DatabaseSchemaCheck([backend]).run()
    assert (result.status, result.message) == (CheckStatus.WARNING, "migrations of a newer release are applied")
    assert result.details == {"planted": ["one"]}


@pytest.mark.parametrize(
    "nothing", ["NULL", pytest.param("''", marks=pytest.mark.slow), pytest.param("' '", marks=pytest.mark.slow)]
)
def test_a_record_that_names_no_migration_is_refused(url: str, planted: PlantedMigrations, nothing: str) -> None:
    planted.add("one", CREATE)
    with psycopg.connect(url) as somebody:
        somebody.execute("CREATE SCHEMA planted")
        somebody.execute("CREATE TABLE planted.alembic_version (version_num text)")
        somebody.execute(f"INSERT INTO planted.alembic_version VALUES ({nothing})".encode())
    with pytest.raises(MigrationError, match=r"The record planted\.alembic_version has a row that names no migration"):
        planted.manager(url).perform_migration()
    assert "planted.things" not in relations(url)


def test_a_history_with_two_ends_is_refused(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", CREATE)
    planted.add("two", "pass")
    planted.add("three", "pass", after="one")
    with pytest.raises(MigrationError, match="have several ends, three, two, of which none comes after the others"):
        planted.manager(url).perform_migration()
    assert relations(url) == set()


@pytest.mark.filterwarnings("ignore:Revision one referenced from")
def test_a_history_with_a_gap_is_refused(url: str, planted: PlantedMigrations) -> None:
    planted.add("two", CREATE, after="one")
    with pytest.raises(MigrationError, match="comes after 'one', which there is not"):
        planted.manager(url).perform_migration()
    assert relations(url) == set()


def test_a_package_without_its_migrations_is_refused(url: str, planted: PlantedMigrations) -> None:
    """A wheel may have been built without them: that nothing is pending would be a lie."""
    planted.versions.rmdir()
    with pytest.raises(MigrationError, match=f"The package {planted.package} has no folder versions"):
        planted.manager(url).perform_migration()


@pytest.mark.slow
def test_ends_that_were_joined_are_applied_in_order(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", CREATE, DROP)
    planted.add("two", "pass")
    planted.add("three", "pass", after="one")
    planted.add("four", "pass")
    four = planted.versions / "revision_four.py"
    four.write_text(four.read_text().replace("down_revision = 'three'", "down_revision = ('two', 'three')"))
    backend = planted.manager(url)
    applied = backend.perform_migration()["planted"]
    assert (applied[0], applied[-1], set(applied[1:3])) == ("one", "four", {"two", "three"})
    assert asyncio.run(downgrade_to("base", backend, url)) == applied[::-1]
    assert rows(url, "SELECT * FROM planted.alembic_version") == []


def test_a_role_that_may_create_no_schema_uses_one_that_is_there(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", CREATE)
    role = f"role_{url.rpartition('/')[2]}"
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'its-own'".encode())
        owner.execute(f"CREATE SCHEMA planted AUTHORIZATION {role}".encode())
    theirs = f"postgresql://{role}:its-own@{url.partition('@')[2]}"
    try:
        assert planted.manager(theirs).perform_migration() == {"planted": ["one"]}
        refused = AlembicManager(theirs)
        with pytest.raises(MigrationError, match="cannot be applied: permission denied for database") as caught:
            refused.perform_migration()
        assert not isinstance(caught.value.__cause__, DatabaseUnavailableError)
    finally:
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute(f"DROP OWNED BY {role}".encode())
            owner.execute(f"DROP ROLE {role}".encode())


class ShopTable(SQLModel):
    metadata: ClassVar[MetaData] = MetaData(schema="planted")


class Order(ShopTable, table=True):
    __tablename__ = "orders"

    id: int | None = Field(default=None, primary_key=True)
    item: str = Field(max_length=40, index=True)


def test_a_migration_is_written_from_the_models(url: str, planted: PlantedMigrations) -> None:
    backend = planted.manager(url, metadata=ShopTable.metadata)
    file = backend.write_revision("Orders, and what is in them!")
    revision = f"{datetime.now(UTC):%Y%m%d}_orders_and_what_is_in_them"[:32]
    assert file == planted.versions / f"revision_{revision}.py"
    assert "sqlmodel" not in file.read_text()
    assert "sa.String(length=40)" in file.read_text()
    assert relations(url) == set()
    assert backend.perform_migration() == {"planted": [revision]}
    assert backend.differences() == []
    with pytest.raises(SchemaError, match=f"There is a migration {revision} already"):
        backend.write_revision("Orders, and what is in them!")
    asyncio.run(backend.downgrade("base"))
    assert "planted.orders" not in relations(url)


@pytest.mark.parametrize(
    ("message", "docstring"),
    [
        ('say """ and \\ and ${1+1}', 'say """ and \\ and ${1+1}.'),
        ('it\'s """', 'it\'s """.'),
        ("two\n  lines,\r\nand a full stop.", "two lines, and a full stop."),
        ("## größer\\", "## größer\\."),
        ('ends in "', 'ends in ".'),
        ("no text: \udcff", "no text: \udcff."),
    ],
)
def test_whatever_the_message_is_the_migration_says_it(
    url: str, planted: PlantedMigrations, message: str, docstring: str
) -> None:
    file = planted.manager(url).write_revision(message)
    text = file.read_text()
    assert (ast.get_docstring(ast.parse(text), clean=False), text[:3]) == (docstring, '"""')
    assert len(text.splitlines()[0]) > len(message) / 2
    assert planted.manager(url).validate_schema_state().pending == (file.stem.removeprefix("revision_"),)


@pytest.mark.parametrize("message", ["", " \n", '"""', "_"])
def test_a_message_without_a_word_is_refused(url: str, planted: PlantedMigrations, message: str) -> None:
    with pytest.raises(SchemaError, match="The message has no word"):
        planted.manager(url).write_revision(message)
    assert [*planted.versions.iterdir()] == []


class Unwritable(UserDefinedType[int]):
    def __repr__(self) -> str:
        return "Unwritable("


def test_what_is_written_and_cannot_be_loaded_does_not_stay(url: str, planted: PlantedMigrations) -> None:
    """Every later command would stumble over it."""
    metadata = MetaData(schema="planted")
    Table("odd", metadata, Column("a", Unwritable()))
    backend = planted.manager(url, metadata=metadata)
    with pytest.raises(SchemaError, match="What would be written cannot be loaded, and was deleted: "):
        backend.write_revision("odd")
    assert [*planted.versions.glob("*.py")] == []
    assert backend.validate_schema_state() == SchemaState((), (), ())


def test_a_file_of_the_same_name_is_not_written_over(url: str, planted: PlantedMigrations) -> None:
    planted.write("one", "pass")
    taken = planted.versions / f"revision_{datetime.now(UTC):%Y%m%d}_stars.py"
    (planted.versions / "revision_one.py").rename(taken)
    before = taken.read_text()
    with pytest.raises(SchemaError, match=f"There is a file {taken.name} already"):
        planted.manager(url).write_revision("stars")
    assert taken.read_text() == before


def test_no_migration_is_written_while_others_are_pending(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", CREATE)
    with pytest.raises(SchemaError, match="No migration can be written: Target database is not up to date"):
        planted.manager(url).write_revision("more")


def test_metadata_without_a_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="the metadata of shop should have a schema"):
        AlembicManager("postgresql://", name="shop", package="shop.migrations", metadata=MetaData())


def test_it_says_nothing(url: str, capfd: pytest.CaptureFixture[str], planted: PlantedMigrations) -> None:
    planted.add("one", CREATE, DROP)
    backend = planted.manager(url)
    asyncio.run(backend.upgrade())
    backend.differences()
    backend.write_revision("more")
    asyncio.run(backend.downgrade("base"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_importing_it_loads_no_alembic() -> None:
    code = "import sys, api_server.services.migrations; sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=clean_environment(), check=False).returncode == 0
