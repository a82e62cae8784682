"""`api-server check` and `api-server-cli db`, as whoever deploys runs them."""

import asyncio
import io
import os
import pty
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from api_server.database import AdvisoryLock, advisory_lock
from api_server.database.alembic_manager import AlembicManager
from api_server.database.migration_backend import upgrade_all
from api_server.local.postgres import PostgresAddress
from api_server.testing import RunningCluster, clean_environment
from command_lines import SUPPORT, program, run_command, run_here
from numbered_migrations import NumberedMigrations
from planted_migrations import PlantedMigrations, executed, relations, rows, sessions
from proxies import tcp_proxy

# Each test runs commands in processes of their own; those of the guide are run by `make test`.
pytestmark = pytest.mark.slow

NUMBERED = "numbered_migrations:NUMBERED"
FAILING = "numbered_migrations:FAILING"
PRESETS = "20261127_presets"
PLANTED = """
from api_server.application import Application
from api_server.database.alembic_manager import AlembicManager
from sqlalchemy import MetaData

def migrations():
    metadata = MetaData(schema="planted")
    return [AlembicManager(PLANTED.primary_url(), name="planted", package="planted", metadata=metadata)]

PLANTED = Application(name="planted", version="1", requires_database=True, migrations=migrations)
"""


def db(*arguments: str, url: str, app: str = NUMBERED, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_command("api-server-cli", "--app", app, "db", *arguments, API_SERVER_DATABASE_URL=url, **environment)


def is_migrated(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT to_regclass('numbered') IS NOT NULL").fetchone() == (True,)


def test_an_empty_database_is_migrated_and_then_as_it_should_be(database: PostgresAddress) -> None:
    before = db("check", url=database.url)
    assert before.returncode == 1
    assert "failed          database_schema: pending migrations: 2" in before.stdout
    assert before.stdout.splitlines()[-1].startswith("error after ")
    upgraded = db("upgrade", "--yes", url=database.url)
    assert upgraded.returncode == 0, upgraded.stdout + upgraded.stderr
    assert f"alembic: 1 pending\n  {PRESETS}\nnumbered: 1 pending\n  0001\n" in upgraded.stdout
    assert "success         database_schema: up to date" in upgraded.stdout
    assert is_migrated(database.url)
    after = db("check", url=database.url)
    assert after.returncode == 0
    assert "success         database_schema: up to date (backends: ['alembic', 'numbered'])" in after.stdout
    again = db("upgrade", url=database.url)
    assert again.returncode == 0
    assert again.stdout.endswith("Nothing to do: every migration is applied.\n")


def test_the_server_has_the_same_commands(database: PostgresAddress) -> None:
    arguments = ("--app", NUMBERED, "cli", "db", "current")
    assert run_command("api-server", *arguments, API_SERVER_DATABASE_URL=database.url).stdout == (
        "alembic: none, 1 pending\nnumbered: none, 1 pending\n"
    )


@pytest.mark.slow
def test_current_and_history_tell_what_is_applied_and_change_nothing(database: PostgresAddress) -> None:
    assert db("history", url=database.url).stdout == f"pending  alembic  {PRESETS}\npending  numbered  0001\n"
    assert not is_migrated(database.url)
    assert db("upgrade", "--yes", url=database.url).returncode == 0
    told = [db(command, url=database.url) for command in ("current", "history")]
    assert [done.stdout for done in told] == [
        f"alembic: {PRESETS}, 0 pending\nnumbered: 0001, 0 pending\n",
        f"applied  alembic  {PRESETS}\napplied  numbered  0001\n",
    ]
    assert [done.returncode for done in told] == [0, 0]


def test_without_a_terminal_it_takes_a_yes(database: PostgresAddress) -> None:
    done = db("upgrade", url=database.url)
    assert done.returncode == 2
    assert done.stderr == "Nobody is there to be asked, for this is no terminal: --yes applies them without asking.\n"
    assert not is_migrated(database.url)


@pytest.mark.parametrize(("answer", "status"), [(b"\n", 1), (b"\x04", 1), (b"y\n", 0), (b"\x03", 130)])
def test_who_is_asked_decides(database: PostgresAddress, answer: bytes, status: int) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [program("api-server-cli"), "--app", NUMBERED, "db", "upgrade"],
        env=clean_environment(API_SERVER_DATABASE_URL=database.url, PYTHONPATH=str(SUPPORT)),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # Ctrl-C is a signal to the processes whose terminal this is.
        preexec_fn=lambda: _take_terminal(theirs),  # noqa: PLW1509 - this process has no threads here
    ) as process:
        os.close(theirs)
        assert isinstance(process.stdout, io.BufferedReader)
        while b"Apply them? [y/N]" not in (line := process.stdout.read1()):
            assert line, process.communicate()
        _answer(process, ours, answer)
        _, errors = process.communicate()
    os.close(ours)
    assert process.returncode == status, errors
    assert is_migrated(database.url) is (status == 0)
    assert b"Traceback" not in errors
    assert (b"Nothing was changed." in errors) is (status == 1)


def _answer(process: subprocess.Popen[bytes], terminal: int, answer: bytes) -> None:
    """Type an answer as a person would: not in the moment between the question and the reading, else once more."""
    time.sleep(0.3)
    deadline = time.monotonic() + 30
    while process.poll() is None:
        assert time.monotonic() < deadline
        os.write(terminal, answer)
        with suppress(subprocess.TimeoutExpired):
            process.wait(4)


def _take_terminal(terminal: int) -> None:
    import fcntl
    import termios

    # Whoever runs the tests in the background has it ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def migrate(url: str) -> None:
    asyncio.run(upgrade_all([AlembicManager(url), NumberedMigrations(url)], url))


def test_what_was_applied_after_a_migration_is_reverted(database: PostgresAddress) -> None:
    migrate(database.url)
    done = db("downgrade", "base", "--backend", "numbered", "--yes", url=database.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-4:] == [
        "numbered: 1 to revert",
        "  0001",
        "The tables and columns that they made are dropped, and what is in them is lost.",
        "Reverted: 0001.",
    ]
    assert not is_migrated(database.url)
    assert AlembicManager(database.url).validate_schema_state().applied == (PRESETS,)
    command = ("api-server-cli", "--app", NUMBERED, "db", "downgrade", "base", "--yes")
    # Now it is clear whose migrations are meant.
    assert run_here(*command, API_SERVER_DATABASE_URL=database.url).stdout.endswith(f"Reverted: {PRESETS}.\n")
    assert AlembicManager(database.url).validate_schema_state().applied == ()
    again = run_here(*command, API_SERVER_DATABASE_URL=database.url)
    assert (again.exit_code, again.stdout.splitlines()[-1]) == (0, "Nothing to do: no migration is applied.")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["base"], 2, "Several backends have something to revert: --backend names one of alembic, numbered."),
        (["0002"], 2, "0002 is no migration that is applied: `db history` lists them."),
        (["0001", "--backend", "alembic"], 2, "0001 is no migration that is applied: `db history` lists them."),
        (["base", "--backend", "x"], 2, "There are no such migrations: there are those of alembic, numbered."),
        (["0001"], 0, ""),
        (
            ["base", "--backend", "numbered"],
            2,
            "Nobody is there to be asked, for this is no terminal: --yes reverts them without asking.",
        ),
    ],
)
def test_nothing_is_reverted_unless_it_is_clear_what(
    database: PostgresAddress, arguments: list[str], status: int, says: str
) -> None:
    migrate(database.url)
    done = run_here(
        "api-server-cli", "--app", NUMBERED, "db", "downgrade", *arguments, API_SERVER_DATABASE_URL=database.url
    )
    assert str(done.exception or "") == says
    # Such an error is made a 2 where the command line ends.
    assert done.exit_code == (0 if status == 0 else 1)
    if not says:
        assert done.stdout.endswith("Nothing to do: numbered has nothing applied after 0001.\n")
    assert is_migrated(database.url)


def test_a_lock_that_is_held_for_too_long_is_told_by_a_downgrade_too(database: PostgresAddress) -> None:
    migrate(database.url)
    arguments = ("downgrade", "base", "--backend", "numbered", "--yes", "--wait", "0.3")
    with advisory_lock(AdvisoryLock.MIGRATION, database.url):
        done = run_here("api-server-cli", "--app", NUMBERED, "db", *arguments, API_SERVER_DATABASE_URL=database.url)
    assert done.exit_code == 1
    assert done.stderr.startswith("The lock api_server.migration did not become free within 0.3 s")
    assert is_migrated(database.url)


@pytest.mark.slow
def test_a_downgrade_asks_whoever_sits_at_the_terminal(database: PostgresAddress) -> None:
    migrate(database.url)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [program("api-server-cli"), "--app", NUMBERED, "db", "downgrade", "base", "--backend", "numbered"],
        env=clean_environment(API_SERVER_DATABASE_URL=database.url, PYTHONPATH=str(SUPPORT)),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(theirs)
        assert isinstance(process.stdout, io.BufferedReader)
        while b"Revert them? [y/N]" not in (line := process.stdout.read1()):
            assert line, process.communicate()
        _answer(process, ours, b"\n")
        _, errors = process.communicate()
    os.close(ours)
    assert (process.returncode, errors) == (1, b"Nothing was changed.\n")
    assert is_migrated(database.url)


def test_a_migration_is_written_for_a_backend_of_alembic_only(
    database: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AlembicManager, "write_revision", lambda manager, message: Path(f"/{manager.name}/{message}"))
    arguments = ("api-server-cli", "--app", NUMBERED, "db", "revision", "stars")
    done = run_here(*arguments, API_SERVER_DATABASE_URL=database.url)
    assert (done.exit_code, done.stdout) == (0, "/alembic/stars\n")
    done = run_here(*arguments, "--backend", "numbered", API_SERVER_DATABASE_URL=database.url)
    assert str(done.exception) == "There are no such migrations: there are those of alembic."


def test_a_message_without_a_word_is_no_migrations(database: PostgresAddress) -> None:
    done = run_here("api-server-cli", "db", "revision", "!", API_SERVER_DATABASE_URL=database.url)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "The message has no word: say in one or a few what the migration does.\n"


@pytest.mark.parametrize("is_there", [True, False])
def test_no_migration_is_written_where_others_are_pending_or_there_is_no_database(
    database: PostgresAddress, unused_tcp_port: int, *, is_there: bool
) -> None:
    url = database.url if is_there else f"postgresql://u:p@127.0.0.1:{unused_tcp_port}/x"
    done = run_here("api-server-cli", "db", "revision", "stars", API_SERVER_DATABASE_URL=url)
    assert done.exit_code == 1
    assert ("Target database is not up to date" if is_there else "The database cannot be used") in done.stderr


def test_nothing_is_touched_where_the_basic_checks_fail(unused_tcp_port: int) -> None:
    done = db("upgrade", "--yes", url=f"postgresql://u:p@127.0.0.1:{unused_tcp_port}/x")
    assert done.returncode == 1
    assert "failed          database_initialization: the database cannot be reached" in done.stdout
    assert done.stderr == "Nothing was changed.\n"


def test_a_read_only_database_is_not_migrated(database: PostgresAddress) -> None:
    done = db("upgrade", "--yes", url=f"{database.url}?options=-c%20default_transaction_read_only%3Don")
    assert done.returncode == 1
    assert "failed          database_health: the database is read-only" in done.stdout
    assert not is_migrated(database.url)


def test_a_lock_that_is_held_for_too_long_is_told(database: PostgresAddress) -> None:
    with advisory_lock(AdvisoryLock.MIGRATION, database.url) as held:
        done = db("upgrade", "--yes", "--wait", "0.3", url=database.url)
    assert done.returncode == 1
    assert done.stderr == (
        "The lock api_server.migration did not become free within 0.3 s; the server's process "
        f"{held.backend_pid} holds it.\n"
    )


async def test_a_pooler_is_told(database: PostgresAddress) -> None:
    async with tcp_proxy(database, invents_process_numbers=True) as pooler:
        done = await asyncio.to_thread(db, "upgrade", "--yes", url=pooler)
    assert done.returncode == 1
    assert "is a connection pooler" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not is_migrated(database.url)


def test_a_migration_that_fails_is_told(database: PostgresAddress) -> None:
    done = db("upgrade", "--yes", url=database.url, app=FAILING)
    assert done.returncode == 1
    assert done.stderr == "The failing migrations failed: column x is missing\n"


@pytest.mark.parametrize("command", ["current", "history"])
def test_migrations_that_cannot_be_read_are_told(command: str, unused_tcp_port: int) -> None:
    done = db(command, url=f"postgresql://u:hush-hush@127.0.0.1:{unused_tcp_port}/x")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("The alembic migrations failed: connection failed: ")
    assert "hush" not in done.stderr


def test_a_url_that_is_none_is_not_repeated() -> None:
    done = db("current", url="postgresql://u:%zzhush-hush@127.0.0.1/x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "The database's URL cannot be read: it is none that libpq knows.\n"


@pytest.mark.parametrize("command", ["check", "upgrade"])
def test_without_a_database_the_variables_are_named(command: str) -> None:
    error = run_here("api-server-cli", "db", command).exception
    assert str(error) == "No database is configured: set API_SERVER_DATABASE_URL to the URL of the primary."


@pytest.mark.parametrize(
    ("signals", "status"),
    [
        ([signal.SIGTERM], 143),
        pytest.param([signal.SIGINT], 130, marks=pytest.mark.slow),
        pytest.param([signal.SIGINT, signal.SIGINT, signal.SIGTERM], 130, marks=pytest.mark.slow),
    ],
)
def test_who_stops_a_migration_is_told_so_once_its_statement_was_cancelled(
    database: PostgresAddress, tmp_path: Path, signals: list[signal.Signals], status: int
) -> None:
    planted = PlantedMigrations(tmp_path)
    planted.add("one", executed("CREATE TABLE planted.half ()", "SELECT pg_sleep(30)"))
    (tmp_path / "planted_application.py").write_text(PLANTED)
    with subprocess.Popen(
        [program("api-server-cli"), "--app", "planted_application:PLANTED", "db", "upgrade", "--yes"],
        env=clean_environment(API_SERVER_DATABASE_URL=database.url, PYTHONPATH=f"{SUPPORT}:{tmp_path}"),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        while not rows(database.url, "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%(30)'"):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        for number in signals:
            process.send_signal(number)
            time.sleep(0.02)
        _, errors = process.communicate(timeout=30)
    ended = time.monotonic()
    # The server notices a moment later that a connection is closed; what nobody cancelled it ends after a second.
    while sessions(database.url):
        assert time.monotonic() - ended < 0.5
    assert process.returncode == status, errors
    assert errors == f"Stopped by {signals[0].name}: `db history` tells what is applied.\n"
    assert "planted.half" not in relations(database.url)


def test_ctrl_c_ends_a_wait_for_the_lock(database: PostgresAddress) -> None:
    with (
        advisory_lock(AdvisoryLock.MIGRATION, database.url),
        subprocess.Popen(
            [program("api-server-cli"), "--app", NUMBERED, "db", "upgrade", "--yes"],
            env=clean_environment(API_SERVER_DATABASE_URL=database.url, PYTHONPATH=str(SUPPORT)),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        ) as process,
    ):
        _wait_for_session(database.url)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, b"Stopped by SIGINT: `db history` tells what is applied.\n")


def _wait_for_session(url: str) -> None:
    """Wait until a second session wants the lock."""
    query = "SELECT count(*) = 2 FROM pg_stat_activity WHERE application_name = 'api_server advisory lock'"
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(f"{query} AND datname = current_database()").fetchone() != (True,):
            time.sleep(0.01)


def test_the_foundation_is_operational_on_its_database(database: PostgresAddress) -> None:
    AlembicManager(database.url).perform_migration()
    done = run_command("api-server", "check", API_SERVER_DATABASE_URL=database.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].startswith("success         database_initialization: it can be used (version: ")
    assert done.stdout.splitlines()[-1].startswith("operational after ")


@pytest.mark.parametrize("url", [{}, {"API_SERVER_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/x"}])
def test_the_foundation_is_nothing_without_its_database(url: Mapping[str, str]) -> None:
    done = run_command("api-server", "check", **url)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("error after ")


def test_malformed_settings_are_two() -> None:
    done = run_command("api-server", "check", API_SERVER_LOG_LEVEL="LOUD", UVICORN_PORT="x")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 2)


@pytest.mark.slow
def test_a_standby_is_not_migrated(postgres_cluster: RunningCluster) -> None:
    postgres_cluster.stop()
    (postgres_cluster.cluster.data / "standby.signal").touch()
    postgres_cluster.start()
    done = db("upgrade", "--yes", url=postgres_cluster.address.url)
    assert done.returncode == 1
    assert "database_health: the database is read-only" in done.stdout
