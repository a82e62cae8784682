"""The one connection pool of a process, and the Piccolo engine that runs its queries through it."""

import asyncio
from contextlib import suppress
from typing import Any

import asyncpg
from api_server.exceptions import StartError
from piccolo.engine.postgres import PostgresEngine

from throttling_sequencer.core.database_config import PiccoloDBConfig

_CONNECT_TIMEOUT_S = 2.0
_CLOSE_TIMEOUT_S = 2.0

# Shorter than the limit of a repository. When it is that limit which ends a query, asyncpg waits once more for this
# long, for the server to confirm.
_COMMAND_TIMEOUT_S = 2.0


class SequencerEngine(PostgresEngine):
    """Piccolo's engine, made without a connection; it reads `PICCOLO_DB_*` when it makes one.

    Piccolo's own connects when it is made, which is when the first module that knows a table is imported.
    """

    def __init__(self) -> None:
        super().__init__(config={})

    async def check_version(self) -> None:
        """Look at nothing; the server's version is whoever's who runs it."""

    async def prep_database(self) -> None:
        """Create no extension: the tables need none."""

    async def get_new_connection(self) -> asyncpg.Connection:
        connection: asyncpg.Connection = await asyncpg.connect(**_connection(PiccoloDBConfig()))
        return connection

    async def start_connection_pool(self, **kwargs: Any) -> None:  # noqa: ANN401 - asyncpg's own
        await super().start_connection_pool(**_connection(PiccoloDBConfig()), **kwargs)


DB = SequencerEngine()


async def start_pool() -> None:
    """Start the process's pool; it connects when it is used, so that a service starts without its database.

    Where `PICCOLO_DB_HOST` is unset there is no database, and no pool.
    """
    config = PiccoloDBConfig()
    if config.host:
        await DB.start_connection_pool(min_size=0, max_size=config.pool_size, command_timeout=_COMMAND_TIMEOUT_S)


async def stop_pool() -> None:
    """Close the pool, and cut off what does not end within two seconds; without a pool, do nothing."""
    if DB.pool is None:
        return
    try:
        # A pool that cannot be closed in time terminates its connections by itself.
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await DB.pool.close()
    finally:
        DB.pool = None


def _connection(config: PiccoloDBConfig) -> dict[str, Any]:
    if not config.addresses:
        raise StartError("PICCOLO_DB_HOST is not set: there is no database to connect to.")
    hosts, ports = zip(*config.addresses, strict=True)
    return {
        "host": list(hosts),
        "port": list(ports),
        "user": config.user,
        "password": config.password.get_secret_value(),
        "database": config.database,
        "timeout": _CONNECT_TIMEOUT_S,
        # PgBouncer may give the next statement another server connection, where a statement prepared on this one does
        # not exist.
        "statement_cache_size": 0,
        # Of several hosts, the one that takes writes.
        "target_session_attrs": "read-write" if len(hosts) > 1 else "any",
        "server_settings": {"application_name": "throttling_sequencer"},
    }
