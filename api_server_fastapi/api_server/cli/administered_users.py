"""What the commands about users do with a credentials file."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import typer
from argon2 import PasswordHasher

from api_server.exceptions import StartError
from api_server.identity.credentials_change import put_user, remove_user
from api_server.identity.credentials_file import (
    KIB,
    LANES,
    PASSES,
    CredentialsFileError,
    MissingFileError,
    User,
    check_name,
    check_scope,
    read_credentials,
)

_SHORTEST, _LONGEST = 8, 512
_NO_TEXT = "A password is text without control characters, in UTF-8."


class AdministeredUsers:
    """A credentials file, and what somebody at a terminal does with it. Each method raises StartError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, name: str, scopes: Sequence[str]) -> None:
        """Add a user, or change one."""
        try:
            check_name(name)
            for scope in scopes:
                check_scope(scope)
            with suppress(MissingFileError):
                read_credentials(self._path)
            password_hash = PasswordHasher(PASSES, KIB, LANES).hash(_password())
            changed = put_user(self._path, User(name, password_hash, frozenset(scopes)))
        except CredentialsFileError as error:
            raise StartError(str(error)) from error
        typer.echo(f"{name} is {'changed' if changed else 'added'} in {self._path}.")

    def remove(self, name: str) -> int:
        """Remove a user; return 0, or 1 where there is none of that name."""
        try:
            removed = remove_user(self._path, name)
        except CredentialsFileError as error:
            raise StartError(str(error)) from error
        typer.echo(f"{name} is removed from {self._path}." if removed else f"There is no {name} in {self._path}.")
        return 0 if removed else 1

    def show(self) -> None:
        """Print the users, a line for each."""
        try:
            users = read_credentials(self._path).users
        except CredentialsFileError as error:
            raise StartError(str(error)) from error
        for user in sorted(users.values(), key=lambda user: user.name):
            typer.echo(" ".join([user.name, *sorted(user.scopes)]))


def _password() -> str:
    """Ask for a password, or read the line that a program gives; never an argument, which every process can see."""
    try:
        password = _given_password()
    except UnicodeDecodeError as error:
        raise StartError(_NO_TEXT) from error
    if not _SHORTEST <= len(password) <= _LONGEST:
        raise StartError(f"A password has {_SHORTEST} to {_LONGEST} characters.")
    if not password.isprintable():
        raise StartError(_NO_TEXT)
    return password


def _given_password() -> str:
    if sys.stdin.isatty():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return password
    # Whatever the locale says: a service reads passwords as UTF-8.
    return sys.stdin.buffer.readline().decode().rstrip("\r\n")
