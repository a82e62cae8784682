"""Requests as no client writes them: bytes over a connection of their own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx2


@asynccontextmanager
async def connected(client: httpx2.AsyncClient) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to where a client leads, and close the connection in the end."""
    assert client.base_url.port is not None
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def spoken(client: httpx2.AsyncClient, *parts: bytes) -> bytes:
    """Send parts, and return what is answered until the server closes the connection."""
    async with connected(client) as (reader, writer):
        # Who is refused early is told so, and reads no more.
        with suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
        return await asyncio.wait_for(reader.read(), 5)
