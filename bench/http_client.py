"""A light HTTP client: the same request again and again over connections that are kept."""

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import cast

_OK = b"HTTP/1.1 200 "
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)")


@dataclass(frozen=True, slots=True)
class Load:
    """How long each answer took, and all of them together."""

    taken_ms: list[float]
    seconds: float


def post(path: str, body: object) -> bytes:
    """Return the bytes of a request that posts JSON."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


async def load(port: int, request: bytes, connections: int, seconds: float) -> Load:
    """Keep so many requests in flight for this long, and wait for the last answers.

    Raises ConnectionError where an answer is not what was asked for.
    """
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    clients = [_Connection(request, begun + seconds) for _ in range(connections)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
    taken = [milliseconds for client in clients for milliseconds in await client.finished]
    return Load(taken, time.perf_counter() - begun)


class _Connection(asyncio.Protocol):
    """Asks again as soon as it is answered, until the time is up."""

    def __init__(self, request: bytes, until: float) -> None:
        self._request = request
        self._until = until
        self._transport: asyncio.Transport
        self._received = b""
        self._asked = 0.0
        self._taken_ms: list[float] = []
        self.finished: asyncio.Future[list[float]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of it.
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._is_complete():
            return
        now = time.perf_counter()
        self._taken_ms.append((now - self._asked) * 1000)
        # GraphQL answers 200 even where it has no answer.
        if not self._received.startswith(_OK) or b'"errors"' in self._received:
            self._finish(ConnectionError(self._received.decode()))
        elif now >= self._until:
            self._finish()
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(exc or ConnectionError("the server closed the connection"))

    def _ask(self) -> None:
        self._received = b""
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def _is_complete(self) -> bool:
        head, _, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        return length is not None and len(body) == int(length[1])

    def _finish(self, failure: Exception | None = None) -> None:
        self._transport.abort()
        if self.finished.done():
            return
        if failure is None:
            self.finished.set_result(self._taken_ms)
        else:
            self.finished.set_exception(failure)
