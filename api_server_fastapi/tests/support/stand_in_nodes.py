"""Stand-ins for the nodes of a lab, as far as a proxy sees them: a server that tells its name, and an agent."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@dataclass
class StandInNode:
    """A server that answers every line with its name, and an agent that answers `says`."""

    name: str
    says: str = "down"
    answers: bool = True
    asked: threading.Event = field(default_factory=threading.Event)
    port: int = 0
    agent_port: int = 0


@contextmanager
def stand_in_node(name: str, says: str = "down") -> Iterator[StandInNode]:
    node = StandInNode(name, says)

    class Server(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while request := self.request.recv(1000):
                if request == _SSL_REQUEST:
                    if node.answers:
                        self.request.sendall(b"N")
                else:
                    self.request.sendall(f"{node.name}\n".encode())

    class Agent(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(f"{node.says}\n".encode())
            node.asked.set()

    with _serving(Server) as node.port, _serving(Agent) as node.agent_port:
        yield node


@contextmanager
def _serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.end_sessions()
        server.server_close()
        thread.join()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = False
    block_on_close = True

    def __init__(self, address: tuple[str, int], handler: type[socketserver.BaseRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def finish_request(self, request: "socket.socket | tuple[bytes, socket.socket]", client_address: object) -> None:
        assert isinstance(request, socket.socket)
        self._open.add(request)
        super().finish_request(request, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a proxy leaves when it knows enough."""

    def shutdown_request(self, request: "socket.socket | tuple[bytes, socket.socket]") -> None:
        if isinstance(request, socket.socket):
            self._open.discard(request)
        super().shutdown_request(request)

    def end_sessions(self) -> None:
        for session in list(self._open):
            session.shutdown(socket.SHUT_RDWR)
