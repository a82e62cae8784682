"""`db`: whether the database is as the code expects it, and how it becomes so."""

import math
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from api_server.cli.administered_database import AdministeredDatabase

app = typer.Typer(no_args_is_help=True, help="Check and migrate the database.")


@app.command()
def check() -> None:
    """Tell whether the database can be used, takes writes and is migrated: 0, else 1."""
    raise typer.Exit(_database().check())


@app.command()
def upgrade(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for another process that migrates.")
    ] = 600.0,
) -> None:
    """Apply what is pending, and tell whether the database is as it should be then: 0, else 1."""
    if not math.isfinite(wait):
        raise typer.BadParameter("should be a number of seconds", param_hint="--wait")
    raise typer.Exit(_database().upgrade(asks=not yes, wait=wait))


@app.command()
def current() -> None:
    """Show the newest migration that is applied, and how many are pending."""
    raise typer.Exit(_database().show_current())


@app.command()
def history() -> None:
    """Show every migration, oldest first, applied or pending."""
    raise typer.Exit(_database().show_history())


def _database() -> "AdministeredDatabase":
    from api_server.cli.administered_database import administered_database  # noqa: PLC0415 - help waits for no driver

    return administered_database()
