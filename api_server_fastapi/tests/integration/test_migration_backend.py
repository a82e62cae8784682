"""Migrations are applied once, whoever asks for them and however many ask at once."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numbered_migrations
import psycopg
import pytest
from api_server.database import AdvisoryLock, advisory_lock
from api_server.database.advisory_lock import (
    AdvisoryLockError,
    LockTimeoutError,
    advisory_lock_async,
    try_advisory_lock_async,
)
from api_server.database.migration_backend import (
    BASE,
    MigrationBackend,
    MigrationError,
    applied_migrations,
    downgrade_to,
    migrations_after,
    upgrade_all,
)
from api_server.local.postgres import PostgresAddress
from api_server.testing import fresh_database
from numbered_migrations import NumberedMigrations
from structlog.testing import capture_logs

SUPPORT = Path(numbered_migrations.__file__).parent


@pytest.fixture
def url(postgres: PostgresAddress) -> Iterator[str]:
    with fresh_database(postgres) as address:
        yield address.url


@dataclass
class ScriptedMigrations:
    """Answers `pending` from a list, and fails, or notes that it upgraded."""

    name: str
    answers: list[list[str]]
    error: Exception | None = None
    upgraded: list[str] = field(default_factory=list)

    async def applied(self) -> list[str]:
        if self.error is not None:
            raise self.error
        return [*self.upgraded]

    async def pending(self) -> list[str]:
        return self.answers.pop(0)

    async def upgrade(self) -> None:
        if self.error is not None:
            raise self.error
        self.upgraded.append(self.name)

    async def downgrade(self, target: str) -> None:
        if self.error is not None:
            raise self.error
        self.upgraded.clear()


@pytest.mark.slow
def test_of_eight_processes_at_once_one_migrates_an_empty_database(url: str) -> None:
    command = [sys.executable, numbered_migrations.__file__, url]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    answers = [process.communicate(timeout=60)[0].splitlines()[-1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    assert sorted(answers) == ["{'numbered': ['0001']}"] + ["{}"] * 7
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM numbered").fetchone() == (1,)


def test_what_a_killed_process_left_half_done_another_does(url: str) -> None:
    with subprocess.Popen([sys.executable, numbered_migrations.__file__, url], stdout=subprocess.DEVNULL) as killed:
        wait_for_table(url)
        killed.kill()
    assert asyncio.run(upgrade_all([NumberedMigrations(url)], url, lock_timeout=5)) == {"numbered": ["0001"]}
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM numbered").fetchone() == (1,)


def wait_for_table(url: str) -> None:
    """Wait until a migration is under way, which nobody else sees yet but by its locks."""
    with psycopg.connect(url, autocommit=True) as connection:
        mode = "SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND locktype = 'relation'"
        while connection.execute(mode).fetchone() is None:
            time.sleep(0.01)


async def test_what_was_applied_is_returned_and_logged_a_line_a_backend(url: str) -> None:
    second = ScriptedMigrations("second", [["0007", "0008"], ["0007", "0008"]])
    up_to_date = ScriptedMigrations("third", [[], []])
    with capture_logs() as logs:
        applied = await upgrade_all([NumberedMigrations(url), second, up_to_date], url)
    assert applied == {"numbered": ["0001"], "second": ["0007", "0008"]}
    assert logs == [
        {"event": "migrations applied", "log_level": "info", "backend": "numbered", "migrations": ["0001"]},
        {"event": "migrations applied", "log_level": "info", "backend": "second", "migrations": ["0007", "0008"]},
    ]
    assert up_to_date.upgraded == []


async def test_where_nothing_is_pending_nobody_is_waited_for(url: str) -> None:
    await upgrade_all([NumberedMigrations(url)], url)
    assert await upgrade_all([NumberedMigrations(url)], "postgresql://127.0.0.1:1/nowhere") == {}


async def test_what_another_process_applied_meanwhile_is_not_applied_again(url: str) -> None:
    backend = ScriptedMigrations("backend", [["0001"], []])
    assert await upgrade_all([backend], url) == {}
    assert backend.upgraded == []


async def test_a_failure_names_its_backend_frees_the_lock_and_stops_the_rest(url: str) -> None:
    failing = ScriptedMigrations("failing", [["1"], ["1"]], error=ValueError("column  x\nis missing"))
    later = ScriptedMigrations("later", [["1"], ["1"]])
    backends: list[MigrationBackend] = [NumberedMigrations(url), failing, later]
    with pytest.raises(MigrationError, match=r"^The failing migrations failed: column x is missing$") as caught:
        await upgrade_all(backends, url)
    assert caught.value.backend == "failing"
    assert later.upgraded == []
    assert await NumberedMigrations(url).pending() == []
    async with try_advisory_lock_async(AdvisoryLock.MIGRATION, url) as held:
        assert held


async def test_what_is_reverted_is_returned_and_logged(url: str) -> None:
    backend = NumberedMigrations(url)
    await upgrade_all([backend], url)
    with capture_logs() as logs:
        assert await downgrade_to(BASE, backend, url) == ["0001"]
    assert logs == [
        {"event": "migrations reverted", "log_level": "info", "backend": "numbered", "migrations": ["0001"]}
    ]
    assert await backend.applied() == []
    assert await downgrade_to(BASE, backend, url) == []


async def test_nothing_is_reverted_without_the_lock(url: str) -> None:
    backend = NumberedMigrations(url)
    await upgrade_all([backend], url)
    async with advisory_lock_async(AdvisoryLock.MIGRATION, url):
        with pytest.raises(LockTimeoutError):
            await downgrade_to(BASE, backend, url, lock_timeout=0.1)
    assert await backend.applied() == ["0001"]


@pytest.mark.parametrize(
    ("target", "expected", "says"),
    [("0007", None, "0007 is no migration that is applied"), (BASE, ["0002", "0001"], "others are applied by now")],
)
async def test_what_is_not_as_expected_is_not_reverted(
    url: str, target: str, expected: list[str] | None, says: str
) -> None:
    backend = NumberedMigrations(url)
    await upgrade_all([backend], url)
    with pytest.raises(MigrationError, match=f"^The numbered migrations failed: {says}"):
        await downgrade_to(target, backend, url, expected=expected)
    assert await backend.applied() == ["0001"]


async def test_a_downgrade_that_fails_names_its_backend_and_frees_the_lock(url: str) -> None:
    failing = ScriptedMigrations("failing", [], upgraded=["1"])
    failing.downgrade = _fail  # type: ignore[method-assign]  # it fails there only
    with pytest.raises(MigrationError, match=r"^The failing migrations failed: no way back$"):
        await downgrade_to(BASE, failing, url)
    async with try_advisory_lock_async(AdvisoryLock.MIGRATION, url) as held:
        assert held


async def _fail(target: str) -> None:
    raise ValueError("no way back")


@pytest.mark.parametrize(("target", "after"), [(BASE, ["3", "2", "1"]), ("1", ["3", "2"]), ("3", [])])
def test_what_comes_after_a_migration_is_told_newest_first(target: str, after: list[str]) -> None:
    assert migrations_after(target, ["1", "2", "3"]) == after


async def test_what_is_applied_is_told_and_a_failure_names_its_backend(url: str) -> None:
    backend = NumberedMigrations(url)
    assert await applied_migrations(backend) == []
    await upgrade_all([backend], url)
    assert await applied_migrations(backend) == ["0001"]
    with pytest.raises(MigrationError, match=r"^The failing migrations failed: no table$"):
        await applied_migrations(ScriptedMigrations("failing", [], error=ValueError("no table")))


async def test_a_database_that_is_away_is_told_by_the_backend(unused_tcp_port: int) -> None:
    url = f"postgresql://u:hush-hush@127.0.0.1:{unused_tcp_port}/x"
    with pytest.raises(MigrationError, match="The numbered migrations failed: connection failed") as caught:
        await upgrade_all([NumberedMigrations(url)], url)
    assert "hush" not in str(caught.value)


async def test_nothing_is_applied_without_the_lock(url: str) -> None:
    backend = ScriptedMigrations("backend", [["0001"], ["0001"]])
    with pytest.raises(AdvisoryLockError, match="URL cannot be read"):
        await upgrade_all([backend], "postgresql://%zz")
    assert backend.upgraded == []


def test_who_waits_too_long_for_another_gives_up(url: str) -> None:
    code = "import asyncio, sys\nfrom numbered_migrations import *\n"
    code += "asyncio.run(upgrade_all([NumberedMigrations(sys.argv[1])], sys.argv[1], lock_timeout=0.3))"
    with advisory_lock(AdvisoryLock.MIGRATION, url):
        done = subprocess.run(
            [sys.executable, "-c", code, url], cwd=SUPPORT, capture_output=True, text=True, check=False
        )
    assert LockTimeoutError.__name__ in done.stderr
