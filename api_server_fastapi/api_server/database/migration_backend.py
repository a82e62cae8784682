"""Migrations, whatever tool makes them: what such a tool offers, and the one way to apply and to revert them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import structlog

from api_server.database.advisory_lock import AdvisoryLock, advisory_lock_async

BASE = "base"
"""The target of a downgrade before which nothing was applied."""

log = structlog.get_logger("api_server.database.migration_backend")


class MigrationBackend(Protocol):
    """The migrations of one schema.

    No method takes a lock, and none may run beside another's `upgrade` or `downgrade`.
    """

    @property
    def name(self) -> str:
        """What the backend is called in logs and errors."""
        ...

    async def applied(self) -> list[str]:
        """Return the names of the migrations that are applied, oldest first; change nothing."""
        ...

    async def pending(self) -> list[str]:
        """Return the names of the migrations that are not applied yet, oldest first; change nothing."""
        ...

    async def upgrade(self) -> None:
        """Apply every pending migration; one that fails leaves nothing of itself behind."""
        ...

    async def downgrade(self, target: str) -> None:
        """Revert, newest first, what was applied after `target`; BASE reverts all.

        Raises ValueError where `target` is not applied. What fails stays applied, and so does what is older.
        """
        ...


@runtime_checkable
class ToldOfNewerReleases(Protocol):
    """What a backend may offer besides: it knows its own migrations from those of a newer release."""

    async def unknown(self) -> list[str]:
        """Return the names of the migrations that are applied and not of this release; change nothing."""
        ...


class RevisionError(Exception):
    """A migration failed, and left nothing; the message has its name and the reason."""


class MigrationError(Exception):
    """A backend's migrations cannot be read or applied; those that were applied before stay.

    An error that has a `reason` keeps from clients what an operator is to know.
    """

    def __init__(self, backend: str, error: Exception) -> None:
        reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        super().__init__(f"The {backend} migrations failed: {reason}")
        self.backend = backend


async def upgrade_all(
    backends: Sequence[MigrationBackend], url: str | None = None, *, lock_timeout: float = 600.0
) -> Mapping[str, list[str]]:
    """Apply what is pending, in the order of `backends`, and return the applied migrations by the backend's name.

    Of all processes that call this at once, one applies; the others wait for it up to `lock_timeout` seconds and find
    nothing left to do. Where nothing is pending, no lock is taken. `url` leads straight to the primary, by default
    `API_SERVER_DATABASE_URL`. Raises MigrationError, and what `advisory_lock` raises.
    """
    if not await pending_migrations(backends):
        return {}
    applied = {}
    async with advisory_lock_async(AdvisoryLock.MIGRATION, url, timeout=lock_timeout):
        for backend in backends:
            # Asked again: while this process waited for the lock, another one may have done the work.
            if migrations := await _pending(backend):
                with _failing_by_name(backend):
                    await backend.upgrade()
                applied[backend.name] = migrations
                log.info("migrations applied", backend=backend.name, migrations=migrations)
    return applied


async def downgrade_to(
    target: str,
    backend: MigrationBackend,
    url: str | None = None,
    *,
    expected: Sequence[str] | None = None,
    lock_timeout: float = 600.0,
) -> list[str]:
    """Revert what was applied after `target`, or all of it for BASE, and return what was reverted, newest first.

    The tables that it made are lost, and what they hold. It happens under the lock that `upgrade_all` takes; nothing
    happens where something else than `expected` would be reverted. Raises MigrationError, and what `advisory_lock`
    raises.
    """
    async with advisory_lock_async(AdvisoryLock.MIGRATION, url, timeout=lock_timeout):
        with _failing_by_name(backend):
            reverted = migrations_after(target, await backend.applied())
            if expected is not None and reverted != [*expected]:
                raise ValueError("others are applied by now than those that were to be reverted; nothing was changed")
            if reverted:
                await backend.downgrade(target)
                log.info("migrations reverted", backend=backend.name, migrations=reverted)
    return reverted


def migrations_after(target: str, applied: Sequence[str]) -> list[str]:
    """Return, newest first, which of the applied migrations come after `target`, or all for BASE.

    Raises ValueError where `target` is not among them.
    """
    if target == BASE:
        return [*reversed(applied)]
    if target not in applied:
        raise ValueError(f"{target} is no migration that is applied, so that nothing is reverted")
    return [*reversed(applied[applied.index(target) + 1 :])]


async def pending_migrations(backends: Sequence[MigrationBackend]) -> Mapping[str, list[str]]:
    """Return what is not applied yet by the backend's name, without the backends that are up to date.

    Raises MigrationError.
    """
    pending = {backend.name: await _pending(backend) for backend in backends}
    return {name: migrations for name, migrations in pending.items() if migrations}


async def unknown_migrations(backends: Sequence[MigrationBackend]) -> Mapping[str, list[str]]:
    """Return what is applied and not of this release by the backend's name, as far as backends can tell.

    Raises MigrationError.
    """
    unknown = {}
    for backend in backends:
        if isinstance(backend, ToldOfNewerReleases):
            with _failing_by_name(backend):
                unknown[backend.name] = await backend.unknown()
    return {name: migrations for name, migrations in unknown.items() if migrations}


async def applied_migrations(backend: MigrationBackend) -> list[str]:
    """Return what is applied, oldest first. Raises MigrationError."""
    with _failing_by_name(backend):
        return await backend.applied()


async def _pending(backend: MigrationBackend) -> list[str]:
    with _failing_by_name(backend):
        return await backend.pending()


@contextmanager
def _failing_by_name(backend: MigrationBackend) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise MigrationError(backend.name, error) from error
