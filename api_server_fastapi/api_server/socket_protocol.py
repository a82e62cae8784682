"""Keeps what one client can make a process hold, and do, in bounds where uvicorn has none."""

import asyncio
import socket

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from api_server.allowance import Allowance

UNREAD_WITHIN_S = 20.0

_PIECE = 4096
_FRAMES_PER_S = 500
_POLICY_VIOLATION = 1008
_SHUTDOWN_S = 1.0
_NO_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def give_up_on_who_does_not_read(listener: socket.socket, seconds: float = UNREAD_WITHIN_S) -> None:
    """Make the kernel reset a connection of this listener whose client takes nothing, or is gone, for so long.

    uvicorn waits for ever until a client takes what was sent. Where the system cannot do it, as on macOS, only sockets
    are given up, by the pings that they do not answer.
    """
    if (option := getattr(socket, "TCP_USER_TIMEOUT", None)) is not None:
        listener.setsockopt(socket.IPPROTO_TCP, option, round(seconds * 1000))


class BoundedSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, of which nothing grows and nothing stays for a client that does not do its part.

    uvicorn reads all that came at once, though nobody takes it yet; it answers each ping, though nobody takes the
    answers; it says nothing to who asks for a socket in a way that websockets does not even parse; and a connection
    that it gives up stays until its client has read what it does not read.
    """

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]  # passed on as they are
        self._unread = b""
        self._frames = Allowance(_FRAMES_PER_S)
        self._late_pongs = b""
        self._end: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        self._unread += data
        self._read_on()

    async def receive(self) -> ASGIReceiveEvent:
        message = await super().receive()
        self._read_on()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if self.close_sent:
            # Nobody receives any more, and the client's own goodbye may be among what is unread.
            self._read_on()

    def _read_on(self) -> None:
        # While something is unread, uvicorn has paused the transport, so that no more comes.
        while self._unread and not self.read_paused and not self.transport.is_closing():
            piece, self._unread = self._unread[:_PIECE], self._unread[_PIECE:]
            super().data_received(piece)
            if self.conn.handshake_exc is not None and not self.handshake_complete:
                self._refuse_handshake()

    def _refuse_handshake(self) -> None:
        self.handshake_complete = self.close_sent = True
        self.transport.write(b"".join(self.conn.data_to_send()) or _NO_REQUEST)
        self.transport.close()

    # Messages wait until the application takes them. Everything else is dealt with as it comes, and therefore counted.

    def handle_ping(self) -> None:
        if not self._may_go_on():
            return
        if self.writable.is_set() or self.conn.close_sent is not None:
            super().handle_ping()
        else:
            # For who reads slowly. An answer to the last ping is one to all before it; those that come at once are
            # answered at the first of them.
            self._late_pongs = b"".join(self.conn.data_to_send()) or self._late_pongs

    def resume_writing(self) -> None:
        super().resume_writing()
        pongs, self._late_pongs = self._late_pongs, b""
        if pongs and not self.close_sent and not self.transport.is_closing():
            self.transport.write(pongs)

    def handle_pong(self, event: Frame) -> None:
        if self._may_go_on():
            super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        if self._may_go_on():
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if not self.close_sent or self._may_go_on():
            super().send_receive_event_to_app()

    def _may_go_on(self) -> bool:
        if self.transport.is_closing():
            return False
        if not self._frames.spend():
            self._refuse()
            return False
        return True

    def _refuse(self) -> None:
        if not self.writable.is_set():
            # It takes nothing, so that a word of farewell would not reach it either.
            self.transport.abort()
            return
        if not self.close_sent:
            self.conn.fail(_POLICY_VIOLATION, "Too many frames")
            self.handle_parser_exception()
        self.transport.close()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()

    def shutdown(self) -> None:
        super().shutdown()
        self._end = self.loop.call_later(_SHUTDOWN_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unread = b""
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)
