"""The database of the selected application, and what `db` does with it."""

import asyncio
import signal
import sys
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from api_server.application import Application
from api_server.cli.checked_application import checked_application
from api_server.cli.checks.pipeline_builders import basic_pipeline, full_pipeline
from api_server.cli.checks.runner import run_checks
from api_server.cli.database_url import UNREADABLE, can_be_read
from api_server.cli.output import tell
from api_server.database.advisory_lock import AdvisoryLockError
from api_server.database.alembic_manager import AlembicManager, SchemaError
from api_server.database.connection import create_engine
from api_server.database.migration_backend import (
    BASE,
    MigrationBackend,
    MigrationError,
    RevisionError,
    applied_migrations,
    downgrade_to,
    migrations_after,
    pending_migrations,
    upgrade_all,
)
from api_server.exceptions import DatabaseUnavailableError, StartError
from api_server.logging import configure_logging
from api_server.readiness_pipeline import ReadinessState
from api_server.services.migrations import migrations_of
from api_server.settings import get_settings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_Backend = TypeVar("_Backend", bound=MigrationBackend)
_T = TypeVar("_T")


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
        if run_checks(basic_pipeline(self.engine), self.engine.dispose) is not _OPERATIONAL:
            tell("Nothing was changed.")
            return 1
        pending = asyncio.run(pending_migrations(self.backends))
        if not pending:
            typer.echo("Nothing to do: every migration is applied.")
            return 0
        _list(pending)
        if asks and not _agreed("Apply them?", "--yes applies them without asking"):
            tell("Nothing was changed.")
            return 1
        _run_stoppable(upgrade_all(self.backends, self.url, lock_timeout=wait))
        return self.check()

    @_told()
    def downgrade(self, target: str, *, backend: str | None, asks: bool, wait: float) -> int:
        """Revert what a backend applied after `target`, once the basic checks succeed and whoever is asked agrees."""
        if run_checks(basic_pipeline(self.engine), self.engine.dispose) is not _OPERATIONAL:
            tell("Nothing was changed.")
            return 1
        chosen, applied = self._backend_that_has(target, backend)
        reverted = migrations_after(target, applied)
        if not reverted:
            is_empty = target == BASE
            nothing = "no migration is applied" if is_empty else f"{chosen.name} has nothing applied after {target}"
            typer.echo(f"Nothing to do: {nothing}.")
            return 0
        typer.echo(f"{chosen.name}: {len(reverted)} to revert")
        for migration in reverted:
            typer.echo(f"  {migration}")
        typer.echo("The tables and columns that they made are dropped, and what is in them is lost.")
        if asks and not _agreed("Revert them?", "--yes reverts them without asking"):
            tell("Nothing was changed.")
            return 1
        _run_stoppable(downgrade_to(target, chosen, self.url, expected=reverted, lock_timeout=wait))
        typer.echo(f"Reverted: {', '.join(reverted)}.")
        return 0

    @_told()
    def write_revision(self, message: str, *, backend: str | None) -> int:
        """Write a migration into the sources of an Alembic backend, and print its file."""
        own = [found for found in self.backends if isinstance(found, AlembicManager)]
        chosen = _only_one(_called(backend, own), f"could have it: --backend names one of {_names(own)}")
        try:
            typer.echo(chosen.write_revision(message))
        except (RevisionError, SchemaError) as error:
            tell(str(error))
            return 1
        except DatabaseUnavailableError as error:
            tell(f"The database cannot be used: {error.reason}.")
            return 1
        return 0

    def _backend_that_has(self, target: str, name: str | None) -> tuple[MigrationBackend, list[str]]:
        """Return the only backend of that name, or of any, that has the target applied, and all that it has applied."""
        named = _called(name, self.backends)
        applied = {found.name: asyncio.run(applied_migrations(found)) for found in named}
        having = [found for found in named if target in applied[found.name] or (target == BASE and applied[found.name])]
        if not having and target == BASE:
            having = [*named[:1]]
        if not having:
            raise StartError(f"{target} is no migration that is applied: `db history` lists them.")
        chosen = _only_one(having, f"have something to revert: --backend names one of {_names(having)}")
        return chosen, applied[chosen.name]

    @_told()
    def show_current(self) -> int:
        """Print a line for each backend: its newest applied migration, and how many are pending."""
        for name, applied, pending in asyncio.run(self._migrations()):
            newest = applied[-1] if applied else "none"
            typer.echo(f"{name}: {newest}, {len(pending)} pending")
        return 0

    @_told()
    def show_history(self) -> int:
        """Print a line for each migration."""
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
    if not application.needs_database:
        typer.echo(f"{application.name} keeps nothing in a database.")
        raise typer.Exit
    url = application.primary_url()
    if url is None:
        raise StartError(_no_database(application))
    # A backend that tried might tell what it tried.
    if not can_be_read(url):
        raise StartError(UNREADABLE)
    return AdministeredDatabase(url, create_engine(url), migrations_of(application))


_OPERATIONAL = ReadinessState.OPERATIONAL


def _run_stoppable(work: Coroutine[Any, Any, _T]) -> _T:
    """Do work that Ctrl-C or SIGTERM cancels, however often; once it has ended in good order, exit with 130 or 143."""
    received: list[signal.Signals] = []

    async def stoppable() -> _T:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)

        def stop(number: signal.Signals) -> None:
            received.append(number)
            task.cancel()

        # Not every thread, nor every platform, can hear of signals.
        with suppress(NotImplementedError, RuntimeError):
            for number in _STOPPING:
                loop.add_signal_handler(number, stop, number)
        try:
            return await task
        finally:
            with suppress(NotImplementedError, RuntimeError):
                for number in _STOPPING:
                    loop.remove_signal_handler(number)

    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError as error:
        if not received:
            raise
        tell(f"Stopped by {received[0].name}: `db history` tells what is applied.")
        raise typer.Exit(128 + received[0]) from error


_STOPPING = (signal.SIGINT, signal.SIGTERM)


def _no_database(application: Application) -> str:
    prefixes = [cls.model_config.get("env_prefix", "") for cls in application.settings]
    own = ", ".join(f"{prefix}*" for prefix in prefixes if prefix)
    others = f", or the variables that lead {application.name} to its own ({own})" if own else ""
    return f"No database is configured: set API_SERVER_DATABASE_URL to the URL of the primary{others}."


def _list(pending: Mapping[str, Sequence[str]]) -> None:
    for name, migrations in pending.items():
        typer.echo(f"{name}: {len(migrations)} pending")
        for migration in migrations:
            typer.echo(f"  {migration}")


def _called(name: str | None, backends: Sequence[_Backend]) -> Sequence[_Backend]:
    """Return the backends of that name, or all where none is given. Raises StartError where there are none."""
    found = [backend for backend in backends if name in (None, backend.name)]
    if not found:
        known = f"are those of {_names(backends)}" if backends else "are none here"
        raise StartError(f"There are no such migrations: there {known}.")
    return found


def _only_one(backends: Sequence[_Backend], many: str) -> _Backend:
    if len(backends) > 1:
        raise StartError(f"Several backends {many}.")
    return backends[0]


def _names(backends: Sequence[MigrationBackend]) -> str:
    return ", ".join(backend.name for backend in backends)


def _agreed(question: str, otherwise: str) -> bool:
    """Ask whoever sits at the terminal. Raises StartError where nobody does."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise StartError(f"Nobody is there to be asked, for this is no terminal: {otherwise}.")
    try:
        return input(f"{question} [y/N] ").strip().casefold() in {"y", "yes"}
    except EOFError:
        # The prompt's line has no end yet.
        typer.echo()
        return False
