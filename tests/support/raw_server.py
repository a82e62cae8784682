"""A server that says what a test wants, and no more."""

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def answering(chunks: Iterable[bytes]) -> Iterator[int]:
    """Give the port of a server that answers its one client with these bytes, and never hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=_answer, args=(listener, chunks))
        server.start()
        try:
            yield listener.getsockname()[1]
        finally:
            # Ends a server that nobody asked.
            listener.shutdown(socket.SHUT_RDWR)
            server.join()


def _answer(listener: socket.socket, chunks: Iterable[bytes]) -> None:
    with suppress(OSError):
        connection, _ = listener.accept()
        with connection:
            for chunk in chunks:
                connection.sendall(chunk)
            while connection.recv(1024):
                pass
