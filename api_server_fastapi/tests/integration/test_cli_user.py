"""`api-server-cli user`: who is in the credentials file, without a password on any command line."""

import os
import subprocess
from pathlib import Path

import pytest
from api_server.cli.app import app
from api_server.exceptions import StartError
from api_server.identity.credentials_file import read_credentials
from argon2 import PasswordHasher
from command_lines import program, run_here
from typer.testing import CliRunner, Result

PASSWORD = "correct horse battery"


def user(*arguments: str, password: str = PASSWORD) -> Result:
    return CliRunner().invoke(app, ["user", *arguments], input=f"{password}\n".encode("utf-8", "surrogateescape"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "credentials"


def test_users_are_added_listed_changed_and_removed(file: Path) -> None:
    added = user("add", "ada", "--scope", "*", "--scope", "admin", "--file", str(file))
    assert (added.exit_code, added.stdout) == (0, f"ada is added in {file}.\n")
    assert user("add", "grace", "--file", str(file)).exit_code == 0
    assert user("list", "--file", str(file)).stdout == "ada * admin\ngrace\n"
    ada = read_credentials(file).users["ada"]
    assert PasswordHasher().verify(ada.password_hash, PASSWORD)
    changed = user("add", "ada", "--scope", "plans", "--file", str(file), password="another password")
    assert changed.stdout == f"ada is changed in {file}.\n"
    ada = read_credentials(file).users["ada"]
    assert ada.scopes == {"plans"}
    assert PasswordHasher().verify(ada.password_hash, "another password")
    removed = user("remove", "ada", "--file", str(file))
    assert (removed.exit_code, removed.stdout) == (0, f"ada is removed from {file}.\n")
    again = user("remove", "ada", "--file", str(file))
    assert (again.exit_code, again.stdout) == (1, f"There is no ada in {file}.\n")
    assert user("list", "--file", str(file)).stdout == "grace\n"


@pytest.mark.parametrize(
    ("arguments", "password", "says"),
    [
        (["add", "ada"], "short", "A password has 8 to 512 characters."),
        (["add", "ada"], "x" * 513, "A password has 8 to 512 characters."),
        (["add", "ada"], "eight\tchars", "A password is text without control characters"),
        (["add", "ada"], "no UTF-8: \udcff", "A password is text without control characters, in UTF-8."),
        (["add", "a b"], PASSWORD, "A user is named by"),
        (["add", "ada", "--scope", "a b"], PASSWORD, "A scope is"),
        (["list"], PASSWORD, "cannot be read: No such file"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_written(arguments: list[str], password: str, says: str, file: Path) -> None:
    error = user(*arguments, "--file", str(file), password=password).exception
    assert isinstance(error, StartError)
    assert says in str(error)
    assert not file.exists()


def test_a_pipe_is_no_credentials_file(file: Path) -> None:
    os.mkfifo(file)
    for arguments in (["add", "ada"], ["remove", "ada"], ["list"]):
        error = user(*arguments, "--file", str(file)).exception
        assert isinstance(error, StartError)
        assert str(error) == f"The credentials file {file} is no regular file."
    assert file.is_fifo()


def test_the_file_is_that_of_the_service_where_none_is_named(file: Path) -> None:
    file.touch()
    assert run_here("api-server-cli", "user", "list", API_SERVER_CREDENTIALS_FILE=str(file)).exit_code == 0
    assert run_here("api-server-cli", "user", "list").exit_code == 2


def test_a_password_is_no_argument(file: Path) -> None:
    assert user("add", "ada", "--password", PASSWORD, "--file", str(file)).exit_code == 2
    done = subprocess.run(
        [program("api-server-cli"), "user", "add", "ada", "--file", file],
        input=f"{PASSWORD}\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert PASSWORD not in done.stdout + done.stderr + file.read_text()
