"""An HTTP server that gives every question the same answer, and keeps what it was asked."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class CannedServer(ThreadingHTTPServer):
    """Answers with 200, this type and this body, `missing` bytes of which it never sends, after `delay` seconds."""

    def __init__(self, content_type: str, body: bytes, missing: int, delay: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content_type, self.body, self.missing, self.delay = content_type, body, missing, delay
        self.asked: list[str] = []
        self.at_once, self.most_at_once = 0, 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def canned(
    body: bytes, content_type: str = "application/json", *, missing: int = 0, delay: float = 0.0
) -> Iterator[CannedServer]:
    with CannedServer(content_type, body, missing, delay) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CannedServer

    def do_POST(self) -> None:
        question = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with self.server.lock:
            self.server.asked.append(question)
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        self.server.closing.wait(self.server.delay)
        with self.server.lock:
            self.server.at_once -= 1
        with suppress(ConnectionError):
            self._answer()

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", self.server.content_type)
        self.send_header("Content-Length", str(len(self.server.body) + self.server.missing))
        self.end_headers()
        self.wfile.write(self.server.body)
        self.close_connection = self.server.missing > 0

    def log_message(self, *_: object) -> None:
        """Write nothing."""
