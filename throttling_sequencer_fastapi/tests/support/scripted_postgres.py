"""Servers that speak PostgreSQL's protocol just as far as a test wants: writers, standbys, and such as say nothing."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from throttling_sequencer.infrastructure.db.primary import Writer

_INT4 = 23


@dataclass
class ScriptedServer:
    """A server on a loopback port, whose answers a test may change while it runs.

    `sqlstate` is what it refuses connections with, `is_silent` has it accept them and answer nothing, `timeline` None
    has it refuse to tell that, `slow_s` is how long it thinks before it says anything. `asked` counts connections.
    """

    timeline: int | None = 1
    is_standby: bool = False
    is_silent: bool = False
    sqlstate: str | None = None
    slow_s: float = 0.0
    asked: int = 0
    open_sessions: int = 0
    most_at_once: int = 0
    host: str = "127.0.0.1"
    port: int = 0
    accepted: list[float] = field(default_factory=list)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def writer(self) -> Writer:
        return Writer(self.host, self.port, self.timeline)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        self.accepted.append(asyncio.get_running_loop().time())
        self.open_sessions += 1
        self.most_at_once = max(self.most_at_once, self.open_sessions)
        self.writers.add(writer)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._converse(reader, writer)
        finally:
            self.open_sessions -= 1
            self.writers.discard(writer)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.slow_s)
        while self.is_silent:
            await reader.readexactly(1)
        while True:
            (length,) = struct.unpack("!i", await reader.readexactly(4))
            (code,) = struct.unpack("!i", (await reader.readexactly(length - 4))[:4])
            if code != 80877103:
                break
            writer.write(b"N")
        if self.sqlstate is not None:
            writer.write(_error(self.sqlstate, "FATAL"))
            await writer.drain()
            return
        writer.write(self._welcome())
        while (kind := await reader.readexactly(1)) != b"X":
            (length,) = struct.unpack("!i", await reader.readexactly(4))
            await reader.readexactly(length - 4)
            writer.write(self._reply(kind))
            await writer.drain()

    def _welcome(self) -> bytes:
        settings = {
            "server_version": "18.0",
            "client_encoding": "UTF8",
            "in_hot_standby": "on" if self.is_standby else "off",
            "default_transaction_read_only": "off",
        }
        told = b"".join(_message(b"S", f"{name}\0{value}\0".encode()) for name, value in settings.items())
        return _message(b"R", struct.pack("!i", 0)) + told + _message(b"K", struct.pack("!ii", 1, 1)) + _READY

    def _reply(self, kind: bytes) -> bytes:
        if kind == b"P":
            return _message(b"1") if self.timeline is not None else _error("42883", "ERROR")
        if kind == b"D" and self.timeline is not None:
            column = b"timeline\0" + struct.pack("!ihihih", 0, 0, _INT4, 4, -1, 1)
            return _message(b"t", struct.pack("!h", 0)) + _message(b"T", struct.pack("!h", 1) + column)
        if kind == b"E":
            row = struct.pack("!hii", 1, 4, self.timeline or 0)
            return _message(b"D", row) + _message(b"C", b"SELECT 1\0")
        return {b"B": _message(b"2"), b"C": _message(b"3"), b"S": _READY, b"Q": _message(b"C", b"SET\0") + _READY}.get(
            kind, b""
        )


@asynccontextmanager
async def scripted(*servers: ScriptedServer) -> AsyncIterator[None]:
    """Run servers, each on a free port of its own."""
    running = []
    for server in servers:
        running.append(await asyncio.start_server(server.answer, "127.0.0.1", server.port))
        server.port = running[-1].sockets[0].getsockname()[1]
    try:
        yield
    finally:
        for one in running:
            one.close()
        for server in servers:
            for writer in list(server.writers):
                writer.transport.abort()
        while any(server.open_sessions for server in servers):
            await asyncio.sleep(0.001)


@asynccontextmanager
async def black_hole() -> AsyncIterator[int]:
    """Give a port where connections are neither accepted nor refused."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        # Those that fill its queue; what comes after them gets no answer.
        filling = []
        try:
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
                filling.append(filler)
            yield port
        finally:
            for filler in filling:
                filler.close()


def _message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _error(sqlstate: str, severity: str) -> bytes:
    fields = f"S{severity}\0V{severity}\0C{sqlstate}\0Mscripted\0\0"
    return _message(b"E", fields.encode())


_READY = _message(b"Z", b"I")
