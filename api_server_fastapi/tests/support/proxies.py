"""What may stand between a service and its database."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from api_server.local.postgres import PostgresAddress

# BackendKeyData: its length, and then the number of the server's process.
_PROCESS_NUMBER = re.compile(rb"(K\x00\x00\x00\x0c)....", re.DOTALL)


@asynccontextmanager
async def tcp_proxy(server: PostgresAddress, *, invents_process_numbers: bool = False) -> AsyncIterator[str]:
    """Give the URL of a proxy that passes bytes on, as HAProxy does.

    With `invents_process_numbers` it tells clients another process than the server's, as PgBouncer does.
    """

    serving: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(server.host, server.port)
        await asyncio.gather(
            _pass_on(reader, to_server, invents=False), _pass_on(from_server, writer, invents=invents_process_numbers)
        )

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.create_task(serve(reader, writer)))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        yield server.url.replace(f":{server.port}/", f":{port}/")
    await asyncio.gather(*serving)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, invents: bool) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(_PROCESS_NUMBER.sub(rb"\1####", data) if invents else data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
