"""Migrations of several processes at once, and of processes that are killed: each is applied once, and nobody hangs."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from api_server.database.advisory_lock import AdvisoryLock, LockTimeoutError, advisory_lock, try_advisory_lock
from api_server.database.migration_backend import upgrade_all
from api_server.local.postgres import PostgresAddress
from api_server.testing import clean_environment, fresh_database
from command_lines import SUPPORT, program
from older_postgres import older_postgres
from planted_migrations import PlantedMigrations, executed, locks, relations, rows, sessions, unwrapped

CREATE = executed("CREATE TABLE planted.things (id integer)")
UPGRADE = """
import sys
from sqlalchemy import MetaData
from api_server.database.alembic_manager import AlembicManager
metadata = MetaData(schema="planted")
print(AlembicManager(sys.argv[1], name="planted", package=sys.argv[2], metadata=metadata).perform_migration())
"""


@pytest.fixture(scope="module")
def older_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresAddress]:
    with older_postgres(tmp_path_factory.mktemp("older") / "postgres") as address:
        yield address


@pytest.fixture(params=["postgres", pytest.param("older_server", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with fresh_database(request.getfixturevalue(request.param)) as address:
        yield address.url


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlantedMigrations]:
    package = f"planted_{tmp_path.name.replace('-', '_')}"
    monkeypatch.syspath_prepend(tmp_path)
    yield PlantedMigrations(tmp_path, package)
    sys.modules.pop(package, None)


def upgrading(url: str, planted: PlantedMigrations) -> "subprocess.Popen[str]":
    """Start a process that migrates."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", UPGRADE, url, planted.package],
        env=clean_environment(PYTHONPATH=str(planted.versions.parents[1])),
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_until_it_runs(url: str, part: str) -> None:
    query = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND datname = current_database() AND query LIKE %s"
    deadline = time.monotonic() + 30
    while not rows(url, query, [part]):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_of_eight_deployments_at_once_one_migrates_an_empty_database(url: str) -> None:
    """The table `numbered` takes a row each time that it is made, and Alembic's cannot be made twice."""
    command: list[str | Path] = [
        program("api-server-cli"),
        "--app",
        "numbered_migrations:NUMBERED",
        "db",
        "upgrade",
        "--yes",
    ]
    environment = clean_environment(API_SERVER_DATABASE_URL=url, PYTHONPATH=str(SUPPORT))
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    answers = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, answers
    assert rows(url, "SELECT count(*) FROM numbered") == [(1,)]
    assert rows(url, "SELECT version_num FROM api_server.alembic_version") == [("20261127_presets",)]


@pytest.mark.slow
def test_what_a_killed_process_left_half_done_another_does(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", executed("CREATE TABLE planted.first ()"))
    planted.add("two", f"{CREATE}\n{executed('SELECT pg_sleep(30)')}")
    with upgrading(url, planted) as killed:
        wait_until_it_runs(url, "%pg_sleep(30)%")
        killed.kill()
        begun = time.monotonic()
        killed.wait()
    lock_is_free = False
    while not lock_is_free:
        with try_advisory_lock(AdvisoryLock.MIGRATION, url) as held:
            lock_is_free = held is not None
        assert time.monotonic() - begun <= 1
    planted.write("two", CREATE, after="one")
    with upgrading(url, planted) as other:
        answer, _ = other.communicate(timeout=30)
    assert (other.returncode, answer.splitlines()[-1]) == (0, "{'planted': ['two']}")
    # The server notices within a second that nobody waits for the statement, and the lock of the table is free.
    assert time.monotonic() - begun < 10
    assert {"planted.first", "planted.things"} <= relations(url)
    while sessions(url):
        assert time.monotonic() - begun < 15
        time.sleep(0.05)
    assert locks(url) == 0


@pytest.mark.slow
def test_an_index_is_built_concurrently_while_another_process_waits(url: str, planted: PlantedMigrations) -> None:
    """Whoever waited inside of the lock's function would keep the index from being built, and that the lock."""
    planted.add("one", CREATE)
    planted.add(
        "two",
        executed("SELECT pg_sleep(0.7)") + "\n" + unwrapped("CREATE INDEX CONCURRENTLY fast ON planted.things (id)"),
    )
    both = asyncio.run(upgraded_by_two(url, planted))
    assert sorted(both, key=len) == [{}, {"planted": ["one", "two"]}]
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'planted.fast'::regclass"
    assert rows(url, valid) == [(True,)]


async def upgraded_by_two(url: str, planted: PlantedMigrations) -> list[Mapping[str, list[str]]]:
    """Upgrade twice at once: what counts is that each has connections of its own."""
    async with asyncio.timeout(10):
        return await asyncio.gather(*(upgrade_all([planted.manager(url)], url, lock_timeout=9) for _ in range(2)))


def test_an_index_that_could_not_be_built_is_not_recorded_as_built(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", f"{CREATE}\n{executed('INSERT INTO planted.things VALUES (1), (1)')}")
    index = "CREATE UNIQUE INDEX CONCURRENTLY fast ON planted.things (id)"
    planted.add("two", unwrapped("DROP INDEX CONCURRENTLY IF EXISTS planted.fast", index))
    backend = planted.manager(url)
    with pytest.raises(Exception, match='two cannot be applied: could not create unique index "fast"'):
        backend.perform_migration()
    assert backend.validate_schema_state().pending == ("two",)
    planted.write(
        "two", unwrapped("DROP INDEX CONCURRENTLY IF EXISTS planted.fast", index.replace("UNIQUE", "")), after="one"
    )
    assert backend.perform_migration() == {"planted": ["two"]}


def test_who_waits_too_long_is_told_by_whom_the_lock_is_held(url: str, planted: PlantedMigrations) -> None:
    planted.add("one", CREATE)
    with advisory_lock(AdvisoryLock.MIGRATION, url) as held, pytest.raises(LockTimeoutError) as caught:
        asyncio.run(upgrade_all([planted.manager(url)], url, lock_timeout=0.3))
    assert str(caught.value).endswith(f"within 0.3 s; the server's process {held.backend_pid} holds it.")
    assert relations(url) == set()
