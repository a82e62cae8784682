"""`user`: the credentials file of the identity `basic`, for as long as nobody needs more than that."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api_server.environment import value_of

if TYPE_CHECKING:
    from api_server.cli.administered_users import AdministeredUsers

app = typer.Typer(no_args_is_help=True, help="Say who is believed by the identity `basic`.")

_Name = Annotated[str, typer.Argument(help="The user's name.")]
_File = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The credentials file; else API_SERVER_CREDENTIALS_FILE.")
]


@app.command()
def add(
    name: _Name,
    *,
    scope: Annotated[
        list[str] | None, typer.Option(help="What the user may do: `*` is all but `admin`. As often as needed.")
    ] = None,
    file: _File = None,
) -> None:
    """Add a user, or change one; the password is asked for, or is the line that standard input has."""
    _users(file).add(name, scope or [])


@app.command()
def remove(name: _Name, *, file: _File = None) -> None:
    """Remove a user: 0, or 1 where there is none of that name."""
    raise typer.Exit(_users(file).remove(name))


@app.command(name="list")
def list_users(*, file: _File = None) -> None:
    """Show who is in the file, and their scopes."""
    _users(file).show()


def _users(file: Path | None) -> "AdministeredUsers":
    from api_server.cli.administered_users import AdministeredUsers  # noqa: PLC0415 - help waits for nothing

    value = value_of("API_SERVER_CREDENTIALS_FILE")
    path = file or (Path(value) if value else None)
    if path is None:
        raise typer.BadParameter("Name the file by --file or API_SERVER_CREDENTIALS_FILE.")
    return AdministeredUsers(path)
