"""The async engine of a process: made once, closed once, and never asked by anybody who was not given it."""

from psycopg import AsyncConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from api_server.settings import libpq_url

_CONNECT_TIMEOUT_S = 2


def create_engine(database_url: str) -> AsyncEngine:
    """Make an engine for a `postgresql://` or `postgresql+psycopg://` URL; it connects on first use.

    The URL is libpq's, so that it may name several hosts.
    """
    conninfo = libpq_url(database_url)

    async def connect() -> AsyncConnection[tuple[object, ...]]:
        return await AsyncConnection.connect(conninfo, connect_timeout=_CONNECT_TIMEOUT_S)

    return create_async_engine(
        "postgresql+psycopg://",
        async_creator=connect,
        pool_size=2,
        max_overflow=3,
        pool_pre_ping=True,
        pool_timeout=2,
        # Errors and the log would show what somebody stores.
        hide_parameters=True,
    )
