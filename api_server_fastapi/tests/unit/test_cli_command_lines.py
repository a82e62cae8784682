"""The command lines: what they list, what they import for it, and how they end."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import environment
from api_server.cli.app import app as admin
from api_server.cli.application_commands import BUILT_IN_COMMANDS, CommandClashError
from api_server.environment import source_of
from api_server.exceptions import SettingsError, StartError
from api_server.main import cli as server
from api_server.services.di import forget_application
from api_server.settings import get_settings
from api_server.testing import clean_environment
from command_lines import logging_as_it_was
from typer.main import get_command
from typer.testing import CliRunner, Result

# pydantic is typer's too, which converts the arguments of a command with it.
FACES = {"fastapi", "psycopg", "sqlalchemy", "starlette", "strawberry", "structlog", "svcs", "uvicorn"}
MAINS = {"api-server": "api_server.main", "api-server-cli": "api_server.cli.app"}

OWN_APPLICATION = """
import typer
from api_server.application import Application

greet = typer.Typer()

@greet.command()
def hello(name: str = "you"):
    '''Say hello to somebody.'''
    typer.echo(f"hello {name}")

APP = Application(name="greeting", version="1", commands=lambda: {"greet": greet})
CLASHING = Application(name="clashing", version="1", commands=lambda: {"db": greet, "doctor": greet})
"""


@pytest.fixture(autouse=True)
def _own_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Let a command line do in this process what it does in one of its own, and an application be there for it."""
    monkeypatch.setattr(os, "environ", clean_environment())
    monkeypatch.setattr(environment, "_SOURCES", {})
    (tmp_path / "greeting_app.py").write_text(OWN_APPLICATION)
    monkeypatch.syspath_prepend(tmp_path)
    get_settings.cache_clear()
    with logging_as_it_was():
        yield
    get_settings.cache_clear()
    forget_application()
    sys.modules.pop("greeting_app", None)


def run(*arguments: str, command: str = "api-server-cli") -> Result:
    return CliRunner().invoke({"api-server": server, "api-server-cli": admin}[command], arguments)


@pytest.mark.parametrize("command", MAINS)
@pytest.mark.parametrize(
    ("arguments", "spared"),
    [(["--help"], FACES | {"pydantic"}), (["db", "check", "--help"], FACES), (["doctor", "--help"], FACES)],
    ids=["all", "db check", "doctor"],
)
def test_help_waits_for_no_face_and_no_driver(command: str, arguments: list[str], spared: set[str]) -> None:
    mounted = ["cli", *arguments] if command == "api-server" and len(arguments) > 1 else arguments
    code = f"""
import sys
from {MAINS[command]} import main
sys.argv = {[command, *mounted]}
try:
    main()
finally:
    print("imported", *{spared} & sys.modules.keys())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True, check=True, timeout=30
    )
    assert "Usage: " in done.stdout
    assert done.stdout.splitlines()[-1] == "imported"


@pytest.mark.parametrize("command", MAINS)
def test_help_of_a_built_in_command_imports_no_application(command: str) -> None:
    arguments = ["cli", "db", "check", "--help"] if command == "api-server" else ["db", "check", "--help"]
    os.environ["API_SERVER_APP"] = "greeting_app:CLASHING"
    assert run(*arguments, command=command).exit_code == 0
    assert "greeting_app" not in sys.modules


def test_the_names_that_an_application_may_not_use_are_those_of_the_built_in_commands() -> None:
    commands = get_command(admin).commands  # type: ignore[attr-defined] # it is a group
    assert commands.keys() == BUILT_IN_COMMANDS


def test_an_applications_commands_are_listed_with_the_built_in_ones() -> None:
    listed = run("--app", "greeting_app:APP", "--help").stdout
    assert all(name in listed for name in ("config", "db", "doctor", "greet", "Say hello to somebody."))


def test_an_env_file_may_name_the_application_whose_commands_are_listed(tmp_path: Path) -> None:
    (tmp_path / "an.env").write_text("API_SERVER_APP=greeting_app:APP\n")
    assert "greet" in run("--env-file", str(tmp_path / "an.env"), "--help").stdout


@pytest.mark.parametrize("name", ["API_SERVER_APP", "api_server_app"])
def test_an_applications_commands_run(name: str) -> None:
    os.environ[name] = "greeting_app:APP"
    result = run("greet", "--name", "me")
    assert (result.exit_code, result.stdout) == (0, "hello me\n")


def test_they_run_under_the_server_too() -> None:
    result = run("--app", "greeting_app:APP", "cli", "greet", command="api-server")
    assert (result.exit_code, result.stdout) == (0, "hello you\n")


@pytest.mark.parametrize("arguments", [["--help"], ["greet"]])
def test_a_command_whose_name_is_taken_is_named(arguments: list[str]) -> None:
    error = run("--app", "greeting_app:CLASHING", *arguments).exception
    assert isinstance(error, CommandClashError)
    assert str(error).startswith("The application clashing offers the command db, doctor, which is one of the built-in")


def test_doctor_names_it_too() -> None:
    result = run("--app", "greeting_app:CLASHING", "doctor")
    assert "error    The application clashing offers the command db, doctor, which is" in result.stdout
    assert result.exit_code == 1


def test_help_is_had_without_the_application_too_and_says_why() -> None:
    result = run("--app", "no_such_module:APP", "--help")
    assert (result.exit_code, "doctor" in result.stdout) == (0, True)
    assert (
        result.stderr
        == "API_SERVER_APP names no_such_module:APP, whose import fails: No module named 'no_such_module'.\n"
    )


def test_a_command_of_an_application_that_is_not_there_is_an_error() -> None:
    assert isinstance(run("--app", "no_such_module:APP", "greet").exception, StartError)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("api-server", ["--port", "many"]),
        ("api-server", ["--no-such-flag"]),
        ("api-server", ["serve"]),
        ("api-server-cli", ["no-such-command"]),
        ("api-server-cli", ["doctor", "--loud"]),
        ("api-server-cli", ["doctor", "everything"]),
        ("api-server-cli", ["db"]),
        ("api-server-cli", ["db", "upgrade", "--wait", "-1"]),
        ("api-server-cli", ["db", "upgrade", "--wait", "nan"]),
        ("api-server", ["--profiles", ""]),
        ("api-server-cli", []),
    ],
)
def test_wrong_use_is_two(command: str, arguments: list[str]) -> None:
    assert run(*arguments, command=command).exit_code == 2


@pytest.mark.parametrize(
    ("flag", "value", "variable"),
    [
        ("--host", "127.0.0.9", "UVICORN_HOST"),
        ("--port", "9009", "UVICORN_PORT"),
        ("--workers", "3", "UVICORN_WORKERS"),
        ("--profiles", "rest", "API_SERVER_PROFILES"),
        ("--log-level", "ERROR", "API_SERVER_LOG_LEVEL"),
        ("--app", "greeting_app:APP", "API_SERVER_APP"),
    ],
)
def test_a_flag_of_the_server_is_a_setting_that_names_it_as_its_source(flag: str, value: str, variable: str) -> None:
    os.environ[variable.lower()] = "what the flag replaces"
    assert run(flag, value, "cli", "db", "--help", command="api-server").exit_code == 0
    assert (environment.value_of(variable), source_of(variable)) == (value, flag)


@pytest.mark.parametrize(("flag", "value"), [("--reload", "True"), ("--no-reload", "False")])
def test_so_is_a_switch(flag: str, value: str) -> None:
    run(flag, "cli", "db", "--help", command="api-server")
    assert (environment.value_of("UVICORN_RELOAD"), source_of("UVICORN_RELOAD")) == (value, "--reload")


def test_a_flag_wins_over_an_env_file(tmp_path: Path) -> None:
    (tmp_path / "an.env").write_text("UVICORN_PORT=7001\nUVICORN_HOST=127.0.0.8\n")
    run("--env-file", str(tmp_path / "an.env"), "--port", "7002", "cli", "db", "--help", command="api-server")
    assert environment.value_of("UVICORN_PORT") == "7002"
    assert source_of("UVICORN_HOST") == str(tmp_path / "an.env")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("api-server", ["run"]),
        ("api-server", ["check"]),
        ("api-server-cli", ["config"]),
        ("api-server-cli", ["db", "check"]),
        ("api-server-cli", ["db", "upgrade"]),
    ],
)
def test_malformed_settings_are_told_all_at_once(command: str, arguments: list[str]) -> None:
    os.environ.update(API_SERVER_LOG_LEVEL="LOUD", API_SERVER_COLOUR="red")
    error = run(*arguments, command=command).exception
    assert isinstance(error, SettingsError)
    assert len(error.problems) == 2
