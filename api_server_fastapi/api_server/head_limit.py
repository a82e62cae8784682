"""Keeps what one connection can make uvicorn's HTTP/1.1 hold, and do at once, in bounds where it has none."""

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_LIMIT = 64 * 1024

# What most requests fit in, and few enough of the smallest ones for one turn of the event loop.
_PIECE = 4096
_REFUSAL = b"The URL and the headers are too long."
_ANSWER = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\n"
    b"connection: close\r\n"
    b"\r\n"
    b"%b"
) % (len(_REFUSAL), _REFUSAL)


class ShortHeadProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, which answers 431 where URL and headers have more than `HEAD_LIMIT` bytes.

    Its parser holds what is not complete yet, and would hold a header that never ends until memory does. What follows a
    body, or stands between its chunks, has the same limit, beyond which the connection is closed; it is never taken for
    a header of the request, which a proxy has looked at before. Of requests that come before they are due, few are
    begun, and the rest waits.
    """

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]  # passed on as they are
        self._unread = bytearray()
        self._is_in_head = False
        # Bytes since something last came of them: the end of a head or of a request, or a part of a body.
        self._size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.flow = _UnreadFlow(transport, self._unread)

    def data_received(self, data: bytes) -> None:
        if len(data) <= _PIECE and not self._unread and not self.pipeline:
            self._take(data)
            return
        self._unread += data
        self._read_on()
        if len(self._unread) > HEAD_LIMIT:
            self.flow.pause_reading()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._read_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unread.clear()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        # Nothing may come before the answer; uvicorn drops what came with the head.
        self._unread.clear()
        super().handle_websocket_upgrade()

    def _read_on(self) -> None:
        while self._unread and not self.pipeline and not self.transport.is_closing():
            piece = bytes(self._unread[:_PIECE])
            del self._unread[:_PIECE]
            self._take(piece)

    def _take(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > HEAD_LIMIT and self._is_in_head:
            # Before it is parsed, so that it is not complete before it is known to be too long.
            self.transport.write(_ANSWER)
            self.transport.close()
            return
        super().data_received(piece)
        if self._size > HEAD_LIMIT:
            self.transport.close()

    def on_message_begin(self) -> None:
        self._is_in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head, self._size = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._size = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._size = 0
        super().on_message_complete()


class _UnreadFlow(FlowControl):
    """Reads no further while much is unread, whoever asks for more."""

    def __init__(self, transport: asyncio.Transport, unread: bytearray) -> None:
        super().__init__(transport)
        self._unread = unread

    def resume_reading(self) -> None:
        if len(self._unread) <= HEAD_LIMIT:
            super().resume_reading()
