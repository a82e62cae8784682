"""A TCP link to a server, which can be made to behave as networks do on bad days."""

import asyncio
import re
import socket
import struct
from contextlib import suppress

MODES = "pass, drop, reset, delay:<milliseconds> and swallow-commit-reply"

_CHUNK = 65_536
_MODE = re.compile(r"pass|drop|reset|delay:\d{1,5}|swallow-commit-reply")
# What PostgreSQL answers to a COMMIT: its kind, its length, its text.
_COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"
_RESETS_AT_CLOSE = struct.pack("ii", 1, 0)


class Link:
    """Passes on what comes to a port of loopback to another one, in the mode that it is in.

    `pass`: as it is. `drop`: bytes vanish, connections stay and hear nothing, new ones too; when the mode ends, those
    that lost something are reset. `reset`: connections are reset, new ones refused. `delay:<ms>`: each piece that long
    later. `swallow-commit-reply`: `pass`, but the next connection whose server answers COMMIT is reset instead.
    """

    def __init__(self, name: str, port: int, to: int) -> None:
        self.name = name
        self.mode = "pass"
        self.port = port
        self.to = to
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        # Bound and never listening: it keeps the port while the link refuses.
        self._claim = _bound(port)

    async def open(self) -> None:
        """Begin to take connections."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, sock=_bound(self.port))

    def close(self) -> None:
        """Take no more connections, reset those that are there, and let go of the port."""
        self._refuse()
        self._claim.close()

    async def set_mode(self, mode: str) -> None:
        """Change the mode; ValueError where there is no such mode."""
        if not _MODE.fullmatch(mode):
            raise ValueError(f"There is no mode {mode!r} of a link, but {MODES}.")
        before, self.mode = self.mode, mode
        if mode == "reset":
            self._refuse()
            return
        if before == "drop" and mode != "drop":
            for connection in list(self.connections):
                if connection.has_lost_bytes:
                    connection.reset()
        await self.open()

    @property
    def delay_s(self) -> float:
        return int(self.mode.removeprefix("delay:")) / 1000 if self.mode.startswith("delay:") else 0.0

    def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self.connections):
            connection.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, writer)
        self.connections.add(connection)
        try:
            await connection.run(reader)
        finally:
            self.connections.discard(connection)


class _Connection:
    """A client's connection, and that to the server which belongs to it."""

    def __init__(self, link: Link, client: asyncio.StreamWriter) -> None:
        self._link = link
        self._writers = [client]
        self._is_reset = asyncio.Event()
        self.has_lost_bytes = False

    def reset(self) -> None:
        """Have both ends see a connection reset by its peer."""
        self._is_reset.set()
        for writer in self._writers:
            _reset(writer)

    async def run(self, from_client: asyncio.StreamReader) -> None:
        """Pass bytes on until the connection ends; one that lost bytes ends only by a reset."""
        await self._delay()
        if self._loses():
            await self._is_reset.wait()
            return
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._link.to)
        except OSError:
            self.reset()
            return
        self._writers.append(to_server)
        if self._is_reset.is_set():
            self.reset()
        await asyncio.gather(
            self._pass_on(from_client, to_server), self._pass_on(from_server, self._writers[0], looks_for=_COMMITTED)
        )
        if self.has_lost_bytes:
            await self._is_reset.wait()
        for writer in self._writers:
            writer.close()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, looks_for: bytes | None = None
    ) -> None:
        held = b""
        try:
            while data := await reader.read(_CHUNK):
                await self._delay()
                if self._loses():
                    continue
                data = held + data
                held = b""
                if looks_for is not None and self._link.mode == "swallow-commit-reply":
                    if looks_for in data:
                        self._link.mode = "pass"
                        self.reset()
                        return
                    held = _beginning_of(looks_for, data)
                    data = data[: len(data) - len(held)]
                writer.write(data)
                await writer.drain()
            if not self._loses() and not self._is_reset.is_set():
                writer.write_eof()
        except OSError:
            # An end that is broken breaks the other one; through a black hole not even that is heard.
            if not self._loses():
                self.reset()

    async def _delay(self) -> None:
        if delay_s := self._link.delay_s:
            await asyncio.sleep(delay_s)

    def _loses(self) -> bool:
        """Whether what is at hand vanishes; that is remembered."""
        if self._link.mode == "drop":
            self.has_lost_bytes = True
        return self.has_lost_bytes


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    # Both, for the socket that claims the port and for the one that listens on it.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.settimeout(0)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return sock


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS_AT_CLOSE)
    writer.transport.abort()


def _beginning_of(pattern: bytes, data: bytes) -> bytes:
    """Return the end of `data` that may be the beginning of `pattern`."""
    for length in range(min(len(pattern) - 1, len(data)), 0, -1):
        if data.endswith(pattern[:length]):
            return data[-length:]
    return b""
