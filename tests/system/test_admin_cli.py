"""The sequencer administered by the foundation's command lines."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from api_server.exceptions import StartError
from api_server.local.postgres import PostgresAddress
from command_lines import run_command, run_here
from piccolo_database import piccolo_environment

SEQUENCER = {"API_SERVER_APP": "throttling_sequencer.app:SEQUENCER"}
MARKER = "hush-hush"


def variables(address: PostgresAddress) -> dict[str, str]:
    return {
        **SEQUENCER,
        **piccolo_environment(address),
    }


@pytest.mark.parametrize(("arguments", "status"), [pytest.param([], 0, marks=pytest.mark.slow), (["--strict"], 1)])
def test_without_its_database_it_is_degraded(arguments: list[str], status: int, no_database: dict[str, str]) -> None:
    done = run_command("api-server", "check", *arguments, **SEQUENCER, **no_database)
    assert done.returncode == status
    assert "failed          database_initialization: the database cannot be reached" in done.stdout
    assert done.stderr == "throttling_sequencer is degraded: it serves, but not all that it should.\n"


def test_in_memory_it_needs_none() -> None:
    done = run_command("api-server", "check", **SEQUENCER, SEQUENCER_PERSISTENCE="memory")
    assert (done.returncode, done.stderr) == (0, "")
    assert "not_applicable  database_initialization: this service keeps nothing in a database" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("operational after ")


def test_in_memory_there_is_nothing_to_migrate() -> None:
    done = run_here("api-server-cli", "db", "upgrade", **SEQUENCER, SEQUENCER_PERSISTENCE="memory")
    assert (done.exit_code, done.stdout) == (0, "throttling_sequencer keeps nothing in a database.\n")


@pytest.mark.slow
def test_an_empty_database_is_migrated_and_then_as_it_should_be(database: PostgresAddress) -> None:
    upgraded = run_command("api-server-cli", "db", "upgrade", "--yes", **variables(database))
    assert upgraded.returncode == 0, upgraded.stdout + upgraded.stderr
    checked = run_command("api-server-cli", "db", "check", **variables(database))
    assert checked.returncode == 0, checked.stdout
    assert "success         database_schema: up to date (backends: ['alembic', 'piccolo'])" in checked.stdout
    assert run_command("api-server", "check", "--strict", **variables(database)).returncode == 0


def test_the_sequencers_tables_can_be_reverted_and_made_again(database: PostgresAddress) -> None:
    *earlier, third, last = (
        "2026-11-25T16:50:50:923447",
        "2026-11-25T17:05:12:310268",
        "2026-11-27T10:05:31:482117",
        "2026-11-27T10:06:02:907344",
    )
    assert run_here("api-server-cli", "db", "upgrade", "--yes", **variables(database)).exit_code == 0
    done = run_here("api-server-cli", "db", "downgrade", third, "--yes", **variables(database))
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, f"Reverted: {last}.")
    history = run_here("api-server-cli", "db", "history", **variables(database)).stdout
    applied = "".join(f"applied  piccolo  {migration}\n" for migration in (*earlier, third))
    assert history == f"applied  alembic  20261127_presets\n{applied}pending  piccolo  {last}\n"
    assert run_here("api-server-cli", "db", "upgrade", "--yes", **variables(database)).exit_code == 0


def test_doctor_asks_the_sequencer_too(database: PostgresAddress) -> None:
    done = run_here("api-server-cli", "doctor", **variables(database), SEQUENCER_PERSISTENCE="memory")
    assert re.search(r"^SEQUENCER_PERSISTENCE +memory", done.stdout, re.MULTILINE)
    assert re.search(r"^PICCOLO_DB_PASSWORD +\(set, hidden\)", done.stdout, re.MULTILINE)
    assert "warning  SEQUENCER_PERSISTENCE, PICCOLO_DB_HOST: A database is configured" in done.stdout
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        (
            {"API_SERVER_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/other"},
            "error    API_SERVER_DATABASE_URL, PICCOLO_DB_DATABASE: Two databases: migrations and locks are for other",
        ),
        (
            {"SEQUENCER_PERSISTENCE": "memory", "UVICORN_WORKERS": "2"},
            "warning  SEQUENCER_PERSISTENCE, UVICORN_WORKERS: The request log is kept in memory",
        ),
        (
            {"SEQUENCER_PRINCIPAL_PLANNING_MS": "500"},
            "error    SEQUENCER_PRINCIPAL_PLANNING_MS, SEQUENCER_TIMEOUT_MS: Nobody may have more than 500 ms",
        ),
        (
            {"SEQUENCER_PRINCIPAL_PLANNING_MS": "1500", "SEQUENCER_LANE_WORKERS": "2"},
            "one search of several units may take 1000 ms on each of 2 processes",
        ),
        ({"sequencer_max_units": "7", "SEQUENCER_MAX_UNITS": "8"}, "One variable, set to several values"),
    ],
)
def test_doctor_names_what_contradicts_itself(
    environment: dict[str, str], says: str, no_database: dict[str, str]
) -> None:
    assert says in run_here("api-server-cli", "doctor", **SEQUENCER, **no_database, **environment).stdout


def test_migrations_at_the_start_of_a_production_are_an_error(no_database: dict[str, str]) -> None:
    done = run_here(
        "api-server-cli", "doctor", **SEQUENCER, **no_database, ENV_TYPE="production", PICCOLO_DB_RUN_MIGRATIONS="true"
    )
    assert "error    PICCOLO_DB_RUN_MIGRATIONS should not be true where ENV_TYPE is production" in done.stdout
    # What the foundation has to say is not hidden by that.
    assert "warning  ENV_TYPE: There is no identity provider" in done.stdout
    assert done.exit_code == 1


def test_without_a_database_its_own_variables_are_named() -> None:
    error = run_here("api-server-cli", "db", "current", **SEQUENCER).exception
    assert isinstance(error, StartError)
    assert "API_SERVER_DATABASE_URL" in str(error)
    assert "PICCOLO_DB_*" in str(error)


@pytest.mark.slow
@pytest.mark.parametrize("malformed", [{}, {"PICCOLO_DB_PORT": "x"}], ids=["refused", "malformed"])
def test_no_command_shows_its_password(postgres: PostgresAddress, malformed: dict[str, str]) -> None:
    environment = {**variables(postgres), "PICCOLO_DB_PASSWORD": MARKER, **malformed}
    loud = {"API_SERVER_LOG_LEVEL": "DEBUG", "API_SERVER_SQLALCHEMY_LOG_LEVEL": "DEBUG"}
    db = [("api-server-cli", "db", command) for command in ("check", "upgrade", "current", "history")]
    config = [("api-server-cli", "config"), ("api-server-cli", "config", "--json")]
    commands = [("api-server-cli", "doctor"), ("api-server", "check"), *config, *db]
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda command: run_command(*command, **loud, **environment), commands):
            assert done.stdout + done.stderr
            assert MARKER not in done.stdout + done.stderr
            assert "Traceback" not in done.stderr
