"""A proxy before PostgreSQL that fails at the moments that matter to a transaction."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from api_server.local.postgres import PostgresAddress

_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
_COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"


@dataclass
class CuttingProxy:
    """Passes bytes on, and cuts a connection off once for each time that is asked for.

    `before_commit` counts COMMITs that never reach the server, `after_commit` such whose answer never comes back.
    """

    address: PostgresAddress
    before_commit: int = 0
    after_commit: int = 0
    cut: int = 0
    passing: set["asyncio.Task[None]"] = field(default_factory=set)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.passing.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(self.address.host, self.address.port)
        sides = [
            asyncio.create_task(self._pass_on(reader, to_server)),
            asyncio.create_task(self._pass_on(from_server, writer)),
        ]
        try:
            await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for side in sides:
                side.cancel()
            for one in (writer, to_server):
                one.transport.abort()
            await asyncio.wait(sides)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                if self._is_cut(data):
                    self.cut += 1
                    return
                writer.write(data)
                await writer.drain()

    def _is_cut(self, data: bytes) -> bool:
        if _COMMIT in data and self.before_commit:
            self.before_commit -= 1
            return True
        if _COMMITTED in data and self.after_commit:
            self.after_commit -= 1
            return True
        return False


@asynccontextmanager
async def cutting_proxy(server: PostgresAddress) -> AsyncIterator[tuple[CuttingProxy, PostgresAddress]]:
    """Run a proxy, and give it and its address."""
    proxy = CuttingProxy(server)
    async with await asyncio.start_server(proxy.accept, "127.0.0.1", 0) as listening:
        yield proxy, replace(server, port=listening.sockets[0].getsockname()[1])
        listening.close()
        for task in proxy.passing:
            task.cancel()
        if proxy.passing:
            await asyncio.wait(proxy.passing)
