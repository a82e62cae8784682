"""Alembic's migrations as a backend: of the foundation's tables, or of any service's.

    AlembicManager()                                                        # the foundation's
    AlembicManager(name="shop", package="shop.migrations", metadata=ShopTable.metadata)

The package has a folder `versions`; its record lies in the schema of the metadata. Alembic runs in this process, in a
thread, on connections of its own that lead straight to the primary.
"""

import asyncio
import threading
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from re import sub
from typing import TYPE_CHECKING, Any

import psycopg
import structlog
from psycopg import AsyncConnection, sql
from sqlalchemy import Connection, MetaData
from sqlalchemy.exc import DBAPIError

from api_server.database.conninfo import conninfo
from api_server.database.migration_backend import RevisionError, migrations_after, upgrade_all
from api_server.database.migration_thread import MigrationThread
from api_server.exceptions import DatabaseUnavailableError, StartError
from api_server.settings import get_settings

if TYPE_CHECKING:
    # Loaded where it is used: who only serves or asks for help needs no Alembic.
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext, MigrationStep
    from alembic.script import ScriptDirectory

_LOCK_TIMEOUT_S = 5.0
_STATEMENT_TIMEOUT_S = 60.0
_READ_TIMEOUT_S = 10.0
_VERSIONS = "versions"
_VERSION_TABLE = "alembic_version"
_LONGEST_REVISION = 32  # of the version table's column

# Besides a lost connection: the server is about to stop or to start, or has no room, or was the primary.
_UNAVAILABLE = ("08", "57P", "53300", "25006")

# Alembic knows what it works on by globals.
_ALEMBIC = threading.Lock()

log = structlog.get_logger("api_server.database.alembic_manager")


class SchemaError(Exception):
    """The history of migrations, or what the database says of it, is not as it should be; the message says how."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """What is applied, and is not yet, oldest first; and what is applied that this release does not know."""

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    unknown: tuple[str, ...]


class AlembicManager:
    """The tables of `metadata` as a `MigrationBackend`; each migration is applied with its record, or not at all.

    A migration gives up where it waits `lock_timeout` seconds for a lock, or a statement of it takes longer than
    `statement_timeout`. `url` leads straight to the primary, by default `API_SERVER_DATABASE_URL`. Where the database
    cannot be reached or used just now, each method raises DatabaseUnavailableError.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        name: str = "alembic",
        package: str = "api_server.migrations",
        metadata: MetaData | None = None,
        lock_timeout: float = _LOCK_TIMEOUT_S,
        statement_timeout: float = _STATEMENT_TIMEOUT_S,
    ) -> None:
        if metadata is not None and metadata.schema is None:
            raise ValueError(f"the metadata of {name} should have a schema: MetaData(schema=…) keeps its record apart")
        self.name = name
        self._given_url = url
        self._package = package
        self._given_metadata = metadata
        self._timeouts = (lock_timeout, statement_timeout)
        self._has_warned = False

    async def applied(self) -> list[str]:
        state = await self.validate_schema_state_async()
        return [*state.applied, *state.unknown]

    async def pending(self) -> list[str]:
        return [*(await self.validate_schema_state_async()).pending]

    async def unknown(self) -> list[str]:
        return [*(await self.validate_schema_state_async()).unknown]

    async def upgrade(self) -> None:
        await self._step_through(await self.pending(), is_upgrade=True)

    async def downgrade(self, target: str) -> None:
        state = await self.validate_schema_state_async()
        if state.unknown:
            raise SchemaError(
                f"A newer release has applied {', '.join(state.unknown)}, and only that one can revert it."
            )
        await self._step_through(migrations_after(target, state.applied), is_upgrade=False)

    def perform_migration(self) -> Mapping[str, list[str]]:
        """Apply what is pending, under the lock of all migrations, in code that runs in no event loop.

        Returns what was applied, and raises what `upgrade_all` does.
        """
        _refuse_event_loop("perform_migration_async")
        return asyncio.run(self.perform_migration_async())

    async def perform_migration_async(self) -> Mapping[str, list[str]]:
        """Do what `perform_migration` does."""
        return await upgrade_all([self], self._url())

    def validate_schema_state(self) -> SchemaState:
        """Tell what is applied, pending or unknown, and change nothing, in code that runs in no event loop."""
        _refuse_event_loop("validate_schema_state_async")
        return asyncio.run(self.validate_schema_state_async())

    async def validate_schema_state_async(self) -> SchemaState:
        """Do what `validate_schema_state` does."""
        heads = await self._heads()
        known, applied = await asyncio.to_thread(self._history, heads)
        if unknown := tuple(sorted(heads - set(known))):
            # A newer release has applied all that this one knows, and more, or so the record says.
            self._warn_once(unknown)
            return SchemaState(tuple(known), (), unknown)
        return SchemaState(
            tuple(revision for revision in known if revision in applied),
            tuple(revision for revision in known if revision not in applied),
            (),
        )

    def differences(self) -> list[str]:
        """Return what the models have that the tables do not have, and the other way round; change nothing."""
        from alembic.autogenerate import compare_metadata  # noqa: PLC0415 - as above

        found: list[Any] = []

        def compare(_: object, context: "MigrationContext") -> "Sequence[MigrationStep]":
            found.extend(compare_metadata(context, self._metadata()))
            return ()

        with self._alembic(self._thread()) as connection:
            config = self._config(connection)
            _run(config, _script(config), compare)
        return [_told(difference) for difference in found]

    def write_revision(self, message: str) -> Path:
        """Write a migration that makes the tables as the models are, into the package, and return its file.

        Where nothing differs it is empty. It is to be read before it is used. Raises SchemaError, and leaves no file,
        where migrations are pending, there is one of that name, the message has no word, or what was written is no
        module, as where a type is not what it says.
        """
        words = sub(r"\W+", "_", message.lower()).strip("_")
        if not words:
            raise SchemaError("The message has no word: say in one or a few what the migration does.")
        revision = f"{datetime.now(UTC):%Y%m%d}_{words}"[:_LONGEST_REVISION].rstrip("_")
        if revision in self._history(set())[0]:
            raise SchemaError(f"There is a migration {revision} already: say something else of this one.")
        file = Path(str(files(self._package).joinpath(_VERSIONS, f"revision_{revision}.py")))
        if file.exists():
            raise SchemaError(f"There is a file {file.name} already: say something else of this migration.")
        with self._alembic(self._thread()) as connection:
            self._write(revision, message, file, connection)
        return file

    def _write(self, revision: str, message: str, file: Path, connection: Connection) -> None:
        from alembic import command  # noqa: PLC0415 - as above
        from alembic.util import CommandError  # noqa: PLC0415 - as above

        try:
            command.revision(self._config(connection), _in_docstring(message), autogenerate=True, rev_id=revision)
        except BaseException as error:
            if file.exists():
                # Alembic loads what it has written, and would stumble over it each time from now on.
                file.unlink()
                if isinstance(error, Exception):
                    raise SchemaError(f"What would be written cannot be loaded, and was deleted: {error}") from error
            if isinstance(error, CommandError):
                raise SchemaError(f"No migration can be written: {error}") from error
            raise

    def _url(self) -> str:
        if self._given_url is not None:
            return self._given_url
        if (setting := get_settings().database_url) is None:
            raise StartError("No database is configured: set API_SERVER_DATABASE_URL to the URL of the primary.")
        return setting.get_secret_value()

    def _metadata(self) -> MetaData:
        if self._given_metadata is None:
            from api_server.models.db_model import FoundationTable  # noqa: PLC0415 - other services have other models

            return FoundationTable.metadata
        return self._given_metadata

    def _thread(self) -> MigrationThread:
        lock_timeout, statement_timeout = self._timeouts
        return MigrationThread(self._url(), lock_timeout=lock_timeout, statement_timeout=statement_timeout)

    async def _heads(self) -> set[str]:
        """Return what the database says of the newest migrations."""
        schema = (await asyncio.to_thread(self._metadata)).schema
        assert schema is not None
        table = sql.Identifier(schema, _VERSION_TABLE)
        async with _reading(self._url()) as connection:
            there = await connection.execute("SELECT to_regclass(%s) IS NOT NULL", (table.as_string(),))
            if await there.fetchone() != (True,):
                return set()
            rows = await connection.execute(sql.SQL("SELECT version_num FROM {}").format(table))
            heads = {revision for (revision,) in await rows.fetchall()}
        if not all(revision and revision.strip() for revision in heads):
            raise SchemaError(
                f"The record {schema}.{_VERSION_TABLE} has a row that names no migration: somebody changed it, and it "
                "does not say any more what is applied."
            )
        return heads

    def _history(self, heads: set[str]) -> tuple[list[str], set[str]]:
        """Return all migrations, oldest first, and those that are applied where `heads` are."""
        # Alembic would take a package without it for one in which nothing is left to do.
        if not files(self._package).joinpath(_VERSIONS).is_dir():
            raise SchemaError(f"The package {self._package} has no folder {_VERSIONS}, where its migrations should be.")
        script = _script(self._config())
        try:
            newest = script.get_heads()
        except KeyError as error:
            raise SchemaError(f"A migration of {self._package} comes after {error}, which there is not.") from error
        if len(newest) > 1:
            raise SchemaError(
                f"The migrations of {self._package} have several ends, {', '.join(sorted(newest))}, of which none "
                "comes after the others: give all but one another down_revision."
            )
        known = [found.revision for found in script.walk_revisions()][::-1]
        lower = script.revision_map.iterate_revisions(tuple(heads & set(known)), "base")
        return known, {found.revision for found in lower}

    def _warn_once(self, unknown: Sequence[str]) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning("migrations of a newer release are applied", backend=self.name, migrations=list(unknown))

    async def _step_through(self, revisions: Sequence[str], *, is_upgrade: bool) -> None:
        if not revisions:
            return
        thread = self._thread()

        def work() -> None:
            for revision in revisions:
                thread.check()
                self._step(revision, thread, is_upgrade=is_upgrade)

        await thread.run(work)

    def _step(self, revision: str, thread: MigrationThread, *, is_upgrade: bool) -> None:
        from alembic.runtime.migration import MigrationStep  # noqa: PLC0415 - as above

        with self._alembic(thread, f"{revision} cannot be {'applied' if is_upgrade else 'reverted'}: ") as connection:
            config = self._config(connection, changes_tables=True)
            script = _script(config)
            make = MigrationStep.upgrade_from_script if is_upgrade else MigrationStep.downgrade_from_script
            step = make(script.revision_map, script.get_revision(revision))
            # Its transaction is that of the run, and the record's table is made in it.
            _run(config, script, lambda *_: (step,))

    @contextmanager
    def _alembic(self, thread: MigrationThread, about: str = "") -> Iterator[Connection]:
        """Be the only one in this process who uses Alembic, on a connection; make errors sentences."""
        while not _ALEMBIC.acquire(timeout=0.1):
            thread.check()
        try:
            with _sentences(about), thread.connected() as connection:
                yield connection
        finally:
            _ALEMBIC.release()

    def _config(self, connection: Connection | None = None, *, changes_tables: bool = False) -> "Config":
        from alembic.config import Config  # noqa: PLC0415 - as above

        config = Config(cmd_opts=Namespace(quiet=True))
        config.set_main_option("script_location", "api_server:migrations")
        config.set_main_option("version_locations", f"{self._package}:{_VERSIONS}")
        config.set_main_option("path_separator", "newline")
        # The name of a migration says what it is about.
        config.set_main_option("file_template", "revision_%%(rev)s")
        config.attributes.update(connection=connection, metadata=self._metadata(), changes_tables=changes_tables)
        return config


def _script(config: "Config") -> "ScriptDirectory":
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - as above

    return ScriptDirectory.from_config(config)


def _run(
    config: "Config",
    script: "ScriptDirectory",
    steps: "Callable[[object, MigrationContext], Sequence[MigrationStep]]",
) -> None:
    """Run the environment, which asks for the steps to take from where the database is."""
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415 - as above

    with EnvironmentContext(config, script, fn=steps):
        script.run_env()


@asynccontextmanager
async def _reading(url: str) -> AsyncIterator["AsyncConnection[tuple[Any, ...]]"]:
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            with _sentences():
                connection = await AsyncConnection.connect(
                    conninfo(url, application_name="api_server migrations", target_session_attrs="primary"),
                    autocommit=True,
                    prepare_threshold=None,
                )
                try:
                    yield connection
                finally:
                    await connection.close()
    except TimeoutError as error:
        raise DatabaseUnavailableError("no answer in time") from error


@contextmanager
def _sentences(about: str = "") -> Iterator[None]:
    """Tell a database that is away from migrations that are wrong."""
    try:
        yield
    except (psycopg.Error, DBAPIError) as error:
        original = error.orig if isinstance(error, DBAPIError) else error
        if not isinstance(original, psycopg.Error):
            raise
        reason = f"{about}{_reason(original)}"
        if _says_unavailable(original, error):
            raise DatabaseUnavailableError(reason) from error
        raise RevisionError(reason) from error


def _reason(error: psycopg.Error) -> str:
    if "unsupported startup parameter" in str(error):
        return (
            f"the database's URL leads to a connection pooler ({' '.join(str(error).split())}): set "
            "API_SERVER_DATABASE_URL to the database server itself"
        )
    return " ".join((error.diag.message_primary or str(error)).split())


def _says_unavailable(original: psycopg.Error, error: Exception) -> bool:
    if "unsupported startup parameter" in str(original):
        return False
    if original.sqlstate is not None:
        return original.sqlstate.startswith(_UNAVAILABLE)
    # What the client found out by itself: it cannot connect, or not any more.
    return isinstance(original, psycopg.OperationalError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )


def _told(difference: Any) -> str:  # noqa: ANN401 - Alembic's tuples, or a list of them for a column
    if isinstance(difference, list):
        return "; ".join(map(_told, difference))
    return " ".join(_named(part) for part in difference if part is not None and not isinstance(part, dict))


def _named(part: object) -> str:
    return str(getattr(part, "fullname", None) or getattr(part, "name", None) or part)


def _in_docstring(message: str) -> str:
    """Write a message so that it is one line, and ends no text between quotes."""
    line = " ".join(message.split()).rstrip(".")
    return repr(line)[1:-1].replace('"', '\\"')


def _refuse_event_loop(other: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"This would hold up the event loop: use {other} there.")
