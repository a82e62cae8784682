"""A light client of `graphql-transport-ws`: it walks over frames and counts them, and parses what is no message."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

# What a message begins with, after its id; one that tells of errors does not.
_NEXT = b'"type":"next","payload":{"data":{'
_NEXT_IS_WITHIN = 60

_TEXT, _PING = 0x81, 0x89
_LENGTH_IN_TWO_BYTES = 126
_LONGEST_HEAD = 4

# The key is RFC 6455's own example: what the server makes of it proves nothing here.
_HANDSHAKE = (
    b"GET /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)


@asynccontextmanager
async def subscribed(port: int, payload: object, number: int) -> AsyncIterator[list["Subscriber"]]:
    """Hold so many subscriptions, each on a socket of its own, once each has had its first message."""
    loop = asyncio.get_running_loop()
    subscribers = [Subscriber(payload) for _ in range(number)]
    try:
        async with asyncio.timeout(30):
            for subscriber in subscribers:
                await loop.create_connection(partial(_itself, subscriber), "127.0.0.1", port)
            await _all(subscriber.acknowledged for subscriber in subscribers)
            # Only now, because uvloop's server accepts one connection a turn, and turns get long.
            for subscriber in subscribers:
                subscriber.subscribe()
            await _all(subscriber.begun for subscriber in subscribers)
        _raise_failures(subscribers)
        yield subscribers
        _raise_failures(subscribers)
    finally:
        for subscriber in subscribers:
            subscriber.leave()


async def _all(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


def _raise_failures(subscribers: Iterable["Subscriber"]) -> None:
    for subscriber in subscribers:
        if subscriber.failure is not None:
            raise subscriber.failure


def _itself(subscriber: "Subscriber") -> "Subscriber":
    return subscriber


class Subscriber(asyncio.Protocol):
    """Subscribes when it is told to, and again whenever its subscription has come to its end."""

    def __init__(self, payload: object) -> None:
        self._payload = payload
        self._transport: asyncio.Transport | None = None
        self._is_upgraded = False
        self._unread = b""
        self.acknowledged = asyncio.Event()
        self.begun = asyncio.Event()
        self.failure: Exception | None = None
        self.messages = 0
        self.arrivals: list[list[float]] = []
        """When each message of each subscription arrived, by `time.perf_counter`."""

    def subscribe(self) -> None:
        self.arrivals.append([])
        self._send({"type": "subscribe", "id": "1", "payload": self._payload})

    def leave(self) -> None:
        """Be gone without a word, as clients are."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of it.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(_HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        data = self._unread + data
        read = self._read_frames(data, 0) if self._is_upgraded else self._upgrade(data)
        self._unread = data[read:]
        if self.messages:
            self.begun.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionError("the server closed the socket"))

    def _upgrade(self, data: bytes) -> int:
        head, end, _ = data.partition(b"\r\n\r\n")
        if not end:
            return 0
        if not head.startswith(b"HTTP/1.1 101 "):
            self._fail(ConnectionError(head.decode()))
        self._is_upgraded = True
        self._send({"type": "connection_init"})
        return self._read_frames(data, len(head) + len(end))

    def _read_frames(self, data: bytes, begin: int) -> int:
        """Read every frame that is complete, and return where the first incomplete one begins."""
        now = time.perf_counter()
        while len(data) >= begin + _LONGEST_HEAD:
            body, length = begin + 2, data[begin + 1]
            if length == _LENGTH_IN_TWO_BYTES:
                body, length = begin + _LONGEST_HEAD, int.from_bytes(data[begin + 2 : begin + _LONGEST_HEAD], "big")
            if len(data) < body + length:
                break
            if data.find(_NEXT, body, body + _NEXT_IS_WITHIN) > 0:
                self.messages += 1
                self.arrivals[-1].append(now)
            else:
                self._read_other(data[begin], data[body : body + length])
            begin = body + length
        return begin

    def _read_other(self, kind: int, body: bytes) -> None:
        if kind == _PING:
            return  # a run is too short for an answer to be missed
        message = json.loads(body) if kind == _TEXT else {"type": f"frame {kind:#x}"}
        match message["type"]:
            case "connection_ack":
                self.acknowledged.set()
            case "complete":
                self.subscribe()
            case _:
                self._fail(ConnectionError(f"the server sent {body!r}"))

    def _send(self, message: object) -> None:
        assert self._transport is not None
        body = json.dumps(message).encode()
        # Clients mask what they send; by zeros, so that it stays as it is.
        head = bytes([_TEXT, 0x80 | _LENGTH_IN_TWO_BYTES]) + len(body).to_bytes(2, "big") + bytes(4)
        self._transport.write(head + body)

    def _fail(self, error: Exception) -> None:
        """Keep the first failure, and keep nobody waiting."""
        self.failure = self.failure or error
        self.acknowledged.set()
        self.begun.set()
