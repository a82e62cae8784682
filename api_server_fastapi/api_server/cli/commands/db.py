"""`db`: whether the database is as the code expects it, and how it becomes so."""

import math
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from api_server.cli.administered_database import AdministeredDatabase

app = typer.Typer(no_args_is_help=True, help="Check and migrate the database.")

_Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_Wait = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for another process that migrates.")
]
_Backend = Annotated[
    str | None, typer.Option(metavar="NAME", help="Whose migrations, where that is not clear: `db current` names them.")
]


@app.command()
def check() -> None:
    """Tell whether the database can be used, takes writes and is migrated: 0, else 1."""
    raise typer.Exit(_database().check())


@app.command()
def upgrade(*, yes: _Yes = False, wait: _Wait = 600.0) -> None:
    """Apply what is pending, and tell whether the database is as it should be then: 0, else 1."""
    _check_wait(wait)
    raise typer.Exit(_database().upgrade(asks=not yes, wait=wait))


@app.command()
def downgrade(
    target: Annotated[str, typer.Argument(help="The migration to go back to, or base: to before the first.")],
    *,
    backend: _Backend = None,
    yes: _Yes = False,
    wait: _Wait = 600.0,
) -> None:
    """Revert what was applied after a migration, with what its tables hold: 0, else 1."""
    _check_wait(wait)
    raise typer.Exit(_database().downgrade(target, backend=backend, asks=not yes, wait=wait))


@app.command()
def revision(
    message: Annotated[str, typer.Argument(help="What it does, in a word or a few.")], *, backend: _Backend = None
) -> None:
    """Write a migration that makes the tables as the models are, into the sources, and show its file."""
    raise typer.Exit(_database().write_revision(message, backend=backend))


@app.command()
def current() -> None:
    """Show the newest migration that is applied, and how many are pending."""
    raise typer.Exit(_database().show_current())


@app.command()
def history() -> None:
    """Show every migration, oldest first, applied or pending."""
    raise typer.Exit(_database().show_history())


def _check_wait(wait: float) -> None:
    if not math.isfinite(wait):
        raise typer.BadParameter("should be a number of seconds", param_hint="--wait")


def _database() -> "AdministeredDatabase":
    from api_server.cli.administered_database import administered_database  # noqa: PLC0415 - help waits for no driver

    return administered_database()
