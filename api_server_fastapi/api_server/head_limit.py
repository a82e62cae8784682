"""Keeps the heads of requests short, which uvicorn holds whole, however long they are."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_LIMIT = 64 * 1024

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

    Its parser holds what is not complete yet, and would hold a header that never ends until memory does.
    """

    _is_in_head = False
    _size = 0

    def on_message_begin(self) -> None:
        self._is_in_head, self._size = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        # In pieces, so that a head is not complete before it is known to be too long.
        for start in range(0, len(data), HEAD_LIMIT):
            if self.transport.is_closing():
                return
            self._take(data[start : start + HEAD_LIMIT])

    def _take(self, piece: bytes) -> None:
        if self._is_in_head and self._size + len(piece) > HEAD_LIMIT:
            self.transport.write(_ANSWER)
            self.transport.close()
            return
        super().data_received(piece)
        if self._is_in_head:
            self._size += len(piece)
