"""`doctor` names whatever is wrong with a configuration, `config` tells it to other programs, and no secret is seen."""

import asyncio
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from api_server.cli.output import without_user_info
from api_server.exceptions import StartError
from api_server.local.postgres import PostgresAddress
from api_server.testing import RunningCluster
from command_lines import run_command, run_here
from frozen_server import frozen
from proxies import tcp_proxy
from typer.testing import Result

MARKER = "hush-hush"
LOUD = {
    "API_SERVER_APP": "numbered_migrations:NUMBERED",
    "API_SERVER_LOG_LEVEL": "DEBUG",
    "API_SERVER_SQLALCHEMY_LOG_LEVEL": "DEBUG",
}
PRODUCTION = {"ENV_TYPE": "production"}


def doctor_here(*arguments: str, **environment: str) -> Result:
    result = run_here("api-server-cli", "doctor", *arguments, **environment)
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = run_command("api-server-cli", "doctor", *arguments, **environment)
    assert "Traceback" not in done.stderr
    return done


def findings(output: str) -> list[str]:
    """The lines that follow the table, without the one that sums up."""
    return output.partition("\n\n")[2].splitlines()[:-1]


@pytest.mark.parametrize(
    ("environment", "status", "says"),
    [
        ({"UVICORN_PORT": "many"}, 1, "error    UVICORN_PORT is 'many', and should be a valid integer"),
        ({"API_SERVER_COLOUR": "red"}, 1, "error    API_SERVER_COLOUR is not a variable of this service"),
        ({"API_SERVER_APP": "nonsense"}, 1, "error    API_SERVER_APP is 'nonsense', and may be"),
        ({"API_SERVER_APP": "..up:APP"}, 1, "error    API_SERVER_APP "),
        ({"API_SERVER_APP": "no_such:APP"}, 1, "error    API_SERVER_APP names no_such:APP, whose import fails"),
        ({"API_SERVER_APP": "json:APP"}, 1, "error    API_SERVER_APP names json:APP, but json has no Application"),
        ({"API_SERVER_PROFILES": "soap"}, 1, "error    API_SERVER_PROFILES names soap, and may name graphql, rest"),
        ({"ENV_TYPE": "prod"}, 1, "error    ENV_TYPE is 'prod'"),
        (
            {"API_SERVER_CORS_ORIGINS": "*", "API_SERVER_CORS_CREDENTIALS": "true"},
            1,
            "error    API_SERVER_CORS_CREDENTIALS should not be true where API_SERVER_CORS_ORIGINS is *",
        ),
        ({"API_SERVER_DATABASE_URL": "mysql://u:p@h/d"}, 1, "error    API_SERVER_DATABASE_URL should begin with"),
        (
            {"API_SERVER_DATABASE_URL": "postgresql://%zz"},
            1,
            "error    API_SERVER_DATABASE_URL: The database's URL can",
        ),
        ({"API_SERVER_DATABASE_URL": ""}, 1, "error    API_SERVER_DATABASE_URL: api_server can do nothing without"),
        (
            {"API_SERVER_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/x"},
            0,
            "warning  API_SERVER_DATABASE_URL: The database cannot be reached: connection failed",
        ),
        ({"UVICORN_HOST": "0.0.0.0"}, 0, "warning  ENV_TYPE, UVICORN_HOST: Development identity on 0.0.0.0"),
        (PRODUCTION, 0, "warning  ENV_TYPE: There is no identity provider"),
        ({**PRODUCTION, "API_SERVER_LOG_LEVEL": "DEBUG"}, 0, "warning  API_SERVER_LOG_LEVEL: DEBUG in production"),
        ({**PRODUCTION, "UVICORN_RELOAD": "true"}, 0, "warning  UVICORN_RELOAD: Reload in production"),
    ],
    ids=str,
)
def test_whatever_is_wrong_is_named(
    environment: Mapping[str, str], status: int, says: str, postgres: PostgresAddress
) -> None:
    done = doctor_here(**{"API_SERVER_DATABASE_URL": postgres.url, **environment})
    assert any(line.startswith(says) for line in findings(done.stdout)), done.stdout
    assert done.exit_code == status
    # The rest of the table is there all the same.
    assert re.search(r"^UVICORN_TIMEOUT_KEEP_ALIVE +5 ", done.stdout, re.MULTILINE)
    assert re.search(r"^API_SERVER_READINESS_PERIOD_S +5.0 ", done.stdout, re.MULTILINE)


def test_where_nothing_is_wrong_there_is_nothing_to_say(postgres: PostgresAddress) -> None:
    done = doctor("--strict", API_SERVER_DATABASE_URL=postgres.url)
    assert (done.returncode, findings(done.stdout), done.stderr) == (0, [], "")
    assert done.stdout.splitlines()[-1].endswith("errors: 0, warnings: 0")


def test_strict_minds_a_warning(postgres: PostgresAddress) -> None:
    assert doctor_here("--strict", API_SERVER_DATABASE_URL=postgres.url, UVICORN_HOST="0.0.0.0").exit_code == 1


def test_errors_come_first() -> None:
    first, second = findings(doctor_here(UVICORN_HOST="0.0.0.0").stdout)
    assert first.startswith("error    API_SERVER_DATABASE_URL: api_server can do nothing without a database")
    assert second.startswith("warning  ENV_TYPE, UVICORN_HOST: ")


def test_one_class_hides_no_other() -> None:
    done = doctor_here(UVICORN_HOST="0.0.0.0", API_SERVER_APP="numbered_migrations:NUMBERED", UVICORN_POTR="1")
    first, second = findings(done.stdout)
    assert first.startswith("error    UVICORN_POTR is not a variable of this service")
    assert second.startswith("warning  ENV_TYPE, UVICORN_HOST: ")


async def test_a_pooler_is_an_error(postgres: PostgresAddress) -> None:
    async with tcp_proxy(postgres, invents_process_numbers=True) as pooler:
        done = await asyncio.to_thread(doctor, API_SERVER_DATABASE_URL=pooler)
    (finding,) = findings(done.stdout)
    assert finding.startswith("error    API_SERVER_DATABASE_URL: 127.0.0.1:")
    assert "is a connection pooler" in finding
    assert done.returncode == 1


def test_a_read_only_database_is_an_error(postgres: PostgresAddress) -> None:
    url = f"{postgres.url}?options=-c%20default_transaction_read_only%3Don"
    done = doctor_here(API_SERVER_DATABASE_URL=url)
    assert findings(done.stdout)[0].startswith("error    API_SERVER_DATABASE_URL: The database is read-only")
    assert done.exit_code == 1


@pytest.mark.slow
def test_a_database_that_answers_nothing_does_not_hold_it(postgres_cluster: RunningCluster) -> None:
    with frozen(postgres_cluster):
        done = doctor(API_SERVER_DATABASE_URL=postgres_cluster.address.url)
    assert findings(done.stdout)[0].startswith("warning  API_SERVER_DATABASE_URL: ")
    assert done.returncode == 0


def test_the_flag_and_the_file_that_a_value_comes_from_are_named(postgres: PostgresAddress, tmp_path: Path) -> None:
    file = tmp_path / "an.env"
    file.write_text("UVICORN_HOST=127.0.0.9\nUVICORN_WORKERS=3\n")
    arguments = ("--env-file", file, "--port", "9001", "cli", "doctor")
    done = run_command("api-server", *arguments, API_SERVER_DATABASE_URL=postgres.url, UVICORN_WORKERS="2")
    sources = {line.split()[0]: line.split()[1:] for line in done.stdout.partition("\n\n")[0].splitlines()}
    assert sources["UVICORN_PORT"] == ["9001", "--port"]
    assert sources["UVICORN_HOST"] == ["127.0.0.9", str(file)]
    assert sources["UVICORN_WORKERS"] == ["2", "environment"]
    assert sources["UVICORN_RELOAD"] == ["false", "default"]


def test_config_is_read_back_by_env_file(tmp_path: Path) -> None:
    environment = {
        "UVICORN_PORT": "9001",
        "UVICORN_ROOT_PATH": "/a path with 'quotes' # and more",
        "uvicorn_workers": "2",
    }
    written = run_command("api-server-cli", "config", **environment)
    assert written.returncode == 0
    (tmp_path / "an.env").write_text(written.stdout)
    told = run_command("api-server-cli", "config", "--json", **environment)
    read = run_command("api-server-cli", "--env-file", tmp_path / "an.env", "config", "--json")
    assert read.returncode == 0
    assert values(told.stdout) == values(read.stdout)
    assert json.loads(read.stdout)["UVICORN_PORT"] == {
        "value": "9001",
        "source": str(tmp_path / "an.env"),
        "is_hidden": False,
    }


def values(output: str) -> dict[str, str | None]:
    return {variable: told["value"] for variable, told in json.loads(output).items()}


COMMANDS = [
    ("api-server-cli", "doctor"),
    ("api-server-cli", "config"),
    ("api-server-cli", "config", "--json"),
    ("api-server", "check"),
    ("api-server-cli", "db", "check"),
    ("api-server-cli", "db", "upgrade", "--yes"),
    ("api-server-cli", "db", "current"),
    ("api-server-cli", "db", "history"),
]


@pytest.mark.parametrize(
    "environment",
    [
        {"API_SERVER_DATABASE_URL": f"postgresql://u:{MARKER}@{{server}}/tests"},
        {"API_SERVER_DATABASE_URL": f"postgresql://u:%zz{MARKER}@{{server}}/tests"},
        {"API_SERVER_DATABASE_URL": f"mysql://u:{MARKER}@{{server}}/tests", "UVICORN_PORT": "x"},
        {"API_SERVER_DATABSE_URL": f"postgresql://u:{MARKER}@h/d", "API_SERVER_CORS_ORIGINS": f"http://u:{MARKER}@h/x"},
    ],
    ids=["refused", "unreadable", "malformed", "misspelled"],
)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_shows_a_secret(
    command: Sequence[str], environment: Mapping[str, str], postgres: PostgresAddress
) -> None:
    server = f"{postgres.host}:{postgres.port}"
    variables = {variable: value.format(server=server) for variable, value in environment.items()}
    result = run_here(*command, **LOUD, **variables)
    # What is wrong with the start is raised here, and told by main() in a process of its own.
    assert isinstance(result.exception, StartError | SystemExit | None)
    told = result.output + without_user_info(str(result.exception))
    assert told
    assert MARKER not in told


@pytest.mark.slow
def test_no_command_shows_the_password_by_which_it_gets_in(database: PostgresAddress) -> None:
    with ThreadPoolExecutor(2) as pool:
        environment = {**LOUD, "API_SERVER_DATABASE_URL": database.url}
        for done in pool.map(lambda command: run_command(*command, **environment), COMMANDS):
            assert done.stdout + done.stderr
            assert database.password not in done.stdout + done.stderr
            assert "Traceback" not in done.stderr
