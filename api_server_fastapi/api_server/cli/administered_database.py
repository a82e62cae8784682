"""The database of the selected application, and what `db` does with it."""

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from api_server.application import Application
from api_server.cli.checked_application import checked_application
from api_server.cli.checks.pipeline_builders import basic_pipeline, full_pipeline
from api_server.cli.checks.runner import run_checks
from api_server.cli.database_url import UNREADABLE, can_be_read
from api_server.cli.output import tell
from api_server.database.advisory_lock import AdvisoryLockError
from api_server.database.connection import create_engine
from api_server.database.migration_backend import (
    MigrationBackend,
    MigrationError,
    applied_migrations,
    pending_migrations,
    upgrade_all,
)
from api_server.exceptions import StartError
from api_server.logging import configure_logging
from api_server.readiness_pipeline import ReadinessState
from api_server.settings import get_settings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


@contextmanager
def _told() -> Iterator[None]:
    """Make what fails say why, and exit with 1."""
    try:
        yield
    except (AdvisoryLockError, MigrationError) as error:
        tell(str(error))
        raise typer.Exit(1) from error


@dataclass(frozen=True, slots=True)
class AdministeredDatabase:
    """The primary of an application, and the migrations of what lies in it; each command returns its exit status."""

    url: str
    engine: "AsyncEngine"
    backends: Sequence[MigrationBackend]

    def check(self) -> int:
        """Run all checks: 0 where all is well, else 1."""
        return int(run_checks(full_pipeline(self.engine, self.backends), self.engine.dispose) is not _OPERATIONAL)

    @_told()
    def upgrade(self, *, asks: bool, wait: float) -> int:
        """Apply what is pending, once the basic checks succeed and whoever is asked agrees; then run all checks."""
        if not self.backends:
            return _say_that_there_are_none()
        if run_checks(basic_pipeline(self.engine), self.engine.dispose) is not _OPERATIONAL:
            tell("Nothing was changed.")
            return 1
        pending = asyncio.run(pending_migrations(self.backends))
        if not pending:
            typer.echo("Nothing to do: every migration is applied.")
            return 0
        _list(pending)
        if asks and not _agreed():
            tell("Nothing was changed.")
            return 1
        asyncio.run(upgrade_all(self.backends, self.url, lock_timeout=wait))
        return self.check()

    @_told()
    def show_current(self) -> int:
        """Print a line for each backend: its newest applied migration, and how many are pending."""
        if not self.backends:
            return _say_that_there_are_none()
        for name, applied, pending in asyncio.run(self._migrations()):
            newest = applied[-1] if applied else "none"
            typer.echo(f"{name}: {newest}, {len(pending)} pending")
        return 0

    @_told()
    def show_history(self) -> int:
        """Print a line for each migration."""
        if not self.backends:
            return _say_that_there_are_none()
        for name, applied, pending in asyncio.run(self._migrations()):
            for migration in applied:
                typer.echo(f"applied  {name}  {migration}")
            for migration in pending:
                typer.echo(f"pending  {name}  {migration}")
        return 0

    async def _migrations(self) -> list[tuple[str, list[str], list[str]]]:
        pending = await pending_migrations(self.backends)
        return [
            (backend.name, await applied_migrations(backend), pending.get(backend.name, []))
            for backend in self.backends
        ]


def administered_database() -> AdministeredDatabase:
    """Return the database of the selected application.

    Exits with 0 where the application keeps nothing in a database. Raises StartError where none is configured, or by a
    URL that is none, and SettingsError.
    """
    application = checked_application()
    # What is printed is the report.
    configure_logging("WARNING", get_settings().log_format)
    if not application.uses_database() and not application.requires_database:
        typer.echo(f"{application.name} keeps nothing in a database.")
        raise typer.Exit
    url = application.primary_url()
    if url is None:
        raise StartError(_no_database(application))
    # A backend that tried might tell what it tried.
    if not can_be_read(url):
        raise StartError(UNREADABLE)
    return AdministeredDatabase(url, create_engine(url), application.migrations())


_OPERATIONAL = ReadinessState.OPERATIONAL


def _no_database(application: Application) -> str:
    prefixes = [cls.model_config.get("env_prefix", "") for cls in application.settings]
    own = ", ".join(f"{prefix}*" for prefix in prefixes if prefix)
    others = f", or the variables that lead {application.name} to its own ({own})" if own else ""
    return f"No database is configured: set API_SERVER_DATABASE_URL to the URL of the primary{others}."


def _say_that_there_are_none() -> int:
    typer.echo("This application has no migrations.")
    return 0


def _list(pending: Mapping[str, Sequence[str]]) -> None:
    for name, migrations in pending.items():
        typer.echo(f"{name}: {len(migrations)} pending")
        for migration in migrations:
            typer.echo(f"  {migration}")


def _agreed() -> bool:
    """Ask whoever sits at the terminal. Raises StartError where nobody does."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise StartError("Nobody is there to be asked, for this is no terminal: --yes applies them without asking.")
    try:
        return input("Apply them? [y/N] ").strip().casefold() in {"y", "yes"}
    except EOFError:
        # The prompt's line has no end yet.
        typer.echo()
        return False
