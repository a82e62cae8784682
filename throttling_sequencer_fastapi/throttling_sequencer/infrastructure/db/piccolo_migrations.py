"""Applies the sequencer's Piccolo migrations in this process, on a connection of their own."""

import asyncio
import os
import pkgutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from typing import cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
from api_server.database.migration_backend import RevisionError, migrations_after
from api_server.exceptions import StartError
from api_server.settings import libpq_url
from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.apps.migrations.tables import Migration
from piccolo.conf.apps import ENVIRONMENT_VARIABLE, MigrationModule
from piccolo.engine.postgres import PostgresTransaction

from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.infrastructure.db import piccolo_conf
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app import piccolo_migrations
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.bounded_migration import has_schema
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.piccolo_app import APP_CONFIG
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.tables import SCHEMA
from throttling_sequencer.infrastructure.db.storage import says_unavailable

_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 2.0
_SETTINGS = {
    "application_name": "throttling_sequencer migrations",
    # The lock of a process that is killed is free at once; so its last statement should not run on for long either.
    "client_connection_check_interval": "1s",
    # For what is done before a migration sets its own.
    "lock_timeout": "5s",
    "statement_timeout": "60s",
}

# Besides a lost connection: the server is about to stop or to start, or has no room, or was the primary.
_UNAVAILABLE = ("08", "57P", "53300", "25006")

# What a URL may say of which asyncpg knows something; it would tell the server the rest, which knows less.
_PARAMETERS = {
    *("dbname", "host", "options", "passfile", "password", "port", "service", "target_session_attrs", "user"),
    *("gsslib", "krbsrvname", "sslcert", "sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslpassword", "sslrootcert"),
    *("ssl_max_protocol_version", "ssl_min_protocol_version"),
}


class PiccoloMigrations:
    """The sequencer's tables as a `MigrationBackend`; each migration comes and goes with its record, or not at all.

    `url` leads straight to the primary; every method raises StorageUnavailableError where it cannot be reached, or does
    not say within `read_timeout` seconds what is applied, and RevisionError where a migration fails. Like every backend
    this one takes no lock: `upgrade_all` does.
    """

    name = "piccolo"

    def __init__(self, url: str, *, read_timeout: float = _READ_TIMEOUT_S) -> None:
        self._url = url
        self._read_timeout = read_timeout

    async def applied(self) -> list[str]:
        async with _connected(self._url) as connection:
            return await self._applied(connection)

    async def pending(self) -> list[str]:
        applied = await self.applied()
        return [module.ID for module in _history() if module.ID not in applied]

    async def unknown(self) -> list[str]:
        known = {module.ID for module in _history()}
        return [migration for migration in await self.applied() if migration not in known]

    async def upgrade(self) -> None:
        async with _connected(self._url) as connection:
            applied = await self._applied(connection)
            for module in _history():
                if module.ID not in applied:
                    with _sentences(f"{module.ID} cannot be applied"):
                        await _apply(module, connection)

    async def downgrade(self, target: str) -> None:
        async with _connected(self._url) as connection:
            reverted = migrations_after(target, await self._applied(connection))
            known = {module.ID: module for module in _history()}
            if unknown := [migration for migration in reverted if migration not in known]:
                raise ValueError(f"A newer release has applied {', '.join(unknown)}, and only that one can revert it")
            for migration in reverted:
                with _sentences(f"{migration} cannot be reverted"):
                    await _revert(known[migration], connection)

    async def _applied(self, connection: asyncpg.Connection) -> list[str]:
        try:
            async with asyncio.timeout(self._read_timeout):
                with _sentences("what is applied cannot be read"):
                    return await _applied(connection)
        except TimeoutError as error:
            raise StorageUnavailableError("no answer in time") from error


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await _connect(url)
    try:
        yield connection
    finally:
        with suppress(TimeoutError):
            await connection.close(timeout=_CLOSE_TIMEOUT_S)


async def _connect(url: str) -> asyncpg.Connection:
    try:
        connection: asyncpg.Connection = await asyncpg.connect(
            _for_asyncpg(url), timeout=_CONNECT_TIMEOUT_S, server_settings=_SETTINGS
        )
    except asyncpg.ProtocolViolationError as error:
        raise StartError(
            f"The database's URL leads to a connection pooler ({error}): set API_SERVER_DATABASE_URL to the database "
            "server itself."
        ) from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if says_unavailable(error):
            raise StorageUnavailableError(f"{type(error).__name__}: {error}") from error
        raise
    except ValueError:
        # The error quotes the part of the URL that cannot be read, which may be the password.
        raise StartError("The database's URL cannot be read.") from None
    return connection


@contextmanager
def _sentences(about: str) -> Iterator[None]:
    """Tell a database that is away from migrations that are wrong, and say which."""
    try:
        yield
    except Exception as error:
        # A transaction that cannot be ended, for want of its connection, complains of that alone.
        hidden = error.__context__ if isinstance(error, asyncpg.InterfaceError) else None
        first = hidden if isinstance(hidden, asyncpg.PostgresError) else error
        reason = f"{about}: {str(first) or type(first).__name__}"
        if _is_away(error):
            raise StorageUnavailableError(reason) from error
        raise RevisionError(reason) from error


def _is_away(error: Exception) -> bool:
    if isinstance(error, asyncpg.PostgresError):
        return (getattr(error, "sqlstate", None) or "").startswith(_UNAVAILABLE)
    # What asyncpg says of values that it was given is an InterfaceError too.
    is_lost = isinstance(error, (ConnectionError, TimeoutError, asyncpg.InterfaceError))
    return is_lost and not isinstance(error, ValueError)


def _for_asyncpg(url: str) -> str:
    parts = urlsplit(libpq_url(url))
    query = [(name, value) for name, value in parse_qsl(parts.query) if name in _PARAMETERS]
    return urlunsplit(parts._replace(query=urlencode(query)))


async def _applied(connection: asyncpg.Connection) -> list[str]:
    with _piccolo_on(connection):
        if not await Migration.table_exists():
            return []
        names: list[str] = await Migration.get_migrations_which_ran(APP_CONFIG.app_name)
        # A name is the moment in which the migration was made.
        return sorted(names)


def _history() -> list[MigrationModule]:
    """Import the migrations by their own names, oldest first.

    Piccolo would put their folder in front of `sys.path`, and leave it there.
    """
    names = [found.name for found in pkgutil.iter_modules(piccolo_migrations.__path__)]
    modules = [cast(MigrationModule, import_module(f"{piccolo_migrations.__name__}.{name}")) for name in names]
    return sorted(modules, key=lambda module: module.ID)


async def _apply(module: MigrationModule, connection: asyncpg.Connection) -> None:
    manager: MigrationManager = await module.forwards()
    async with _changing(manager, connection):
        if not await Migration.table_exists():
            # Asked first: who may use a schema that is there need not be allowed to create one.
            await Migration.create_table(auto_create_schema=not await has_schema(SCHEMA))
        if not manager.fake:
            await manager.run()
        await Migration.insert(Migration(name=module.ID, app_name=APP_CONFIG.app_name))


async def _revert(module: MigrationModule, connection: asyncpg.Connection) -> None:
    manager: MigrationManager = await module.forwards()
    async with _changing(manager, connection):
        if not manager.fake:
            await manager.run(backwards=True)
        await Migration.delete().where(Migration.name == module.ID, Migration.app_name == APP_CONFIG.app_name)


@asynccontextmanager
async def _changing(manager: MigrationManager, connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Let what a migration does, and its record, happen together."""
    # asyncpg's transaction: when a COMMIT fails, Piccolo's forgets to give its connection back.
    async with connection.transaction() if manager.wrap_in_transaction else nullcontext():
        # Piccolo prints what it does; the caller has a log.
        with _piccolo_on(connection), _configuration_found(), redirect_stdout(StringIO()):
            yield


@contextmanager
def _piccolo_on(connection: asyncpg.Connection) -> Iterator[None]:
    """Make every query that Piccolo runs in this context use a connection that is not its own.

    Piccolo asks its engine, of which there is one, for the transaction that the context is in, and runs queries on
    that one's connection; a transaction that it would begin itself joins it.
    """
    transaction = PostgresTransaction(DB)
    transaction.connection = connection
    token = DB.current_transaction.set(transaction)
    try:
        yield
    finally:
        DB.current_transaction.reset(token)


@contextmanager
def _configuration_found() -> Iterator[None]:
    """Let Piccolo find the engine for the tables of a migration: it imports the module that `PICCOLO_CONF` names."""
    before = os.environ.get(ENVIRONMENT_VARIABLE)
    os.environ[ENVIRONMENT_VARIABLE] = piccolo_conf.__name__
    try:
        yield
    finally:
        del os.environ[ENVIRONMENT_VARIABLE]
        if before is not None:
            os.environ[ENVIRONMENT_VARIABLE] = before
