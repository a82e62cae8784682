"""The sequencer's own way to a database, for tests that use it without a service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from api_server.local.postgres import PostgresAddress
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import start_pool, stop_pool


def piccolo_environment(address: PostgresAddress) -> dict[str, str]:
    """Return the variables that point the sequencer at a database."""
    return {
        "PICCOLO_DB_HOST": address.host,
        "PICCOLO_DB_PORT": str(address.port),
        "PICCOLO_DB_USER": address.user,
        "PICCOLO_DB_PASSWORD": address.password,
        "PICCOLO_DB_DATABASE": address.database,
    }


@asynccontextmanager
async def pool_on(address: PostgresAddress, **more: str) -> AsyncIterator[None]:
    """Have the process's pool lead to a database; `more` are further variables."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {**piccolo_environment(address), **more}.items():
            patched.setenv(name, value)
        await start_pool()
        try:
            yield
        finally:
            await stop_pool()
