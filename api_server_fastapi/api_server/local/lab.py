"""A cluster of PostgreSQL nodes with all that stands in front of it, to be broken on purpose, from plain processes."""

import fcntl
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from api_server.exceptions import StartError
from api_server.local.background import BackgroundProcess, kill_all
from api_server.local.cluster import Cluster, Promotion
from api_server.local.lab_state import LabOptions, LabState, ServerState, left_by_lab
from api_server.local.postgres import PostgresAddress
from api_server.local.replication import USER, LabError, Node, Role, wait_until
from api_server.local.switchboard import Switchboard

if TYPE_CHECKING:
    from api_server.local.haproxy import HAProxy
    from api_server.local.pgbouncer import PgBouncer

__all__ = ["Lab", "LabError", "LabOptions", "LabStatus", "NodeStatus", "Promotion", "Role", "Route", "ServerState"]

Route = Literal["direct", "haproxy", "pgbouncer"]
StopMode = Literal["fast", "smart", "immediate"]

_Part = TypeVar("_Part")

_LOCK = "turn.lock"
_TURN_TIMEOUT_S = 120.0
_SWITCHBOARD_TIMEOUT_S = 15.0
_SERVICE_STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """How a node is; `lag_bytes` is what a standby has yet to receive of what the primary has written."""

    name: str
    role: Role
    timeline: int | None
    lag_bytes: int | None
    pid: int | None
    port: int
    is_frozen: bool
    is_fenced: bool
    proxy_state: ServerState


@dataclass(frozen=True, slots=True)
class LabStatus:
    """How the lab is; `is_synchronous` is whether the commits of the writer wait for a standby that is there just now.

    `is_stuck` is whether they wait for one that is not: none of them ends.
    """

    writer: str | None
    is_synchronous: bool
    is_stuck: bool
    nodes: tuple[NodeStatus, ...]
    links: Mapping[str, str]
    is_switchboard_running: bool
    haproxy: Mapping[str, str] | None
    is_haproxy_running: bool | None
    is_pgbouncer_running: bool | None
    service_pid: int | None

    def to_json(self) -> dict[str, Any]:
        """Return what `json.dumps` takes."""
        return asdict(self)


class Lab:
    """A primary and its standbys, the links to them, and proxies in front; usable from any process by its folder.

    What changes it takes turns, over all processes.
    """

    def __init__(self, folder: Path, options: LabOptions) -> None:
        self.folder = folder.resolve()
        self.options = options
        self._switchboard = Switchboard(self.folder)
        self._mutex = threading.RLock()
        self._depth = 0
        self._own: LabState | None = None

    @classmethod
    def create(cls, folder: Path, options: LabOptions | None = None) -> "Lab":
        """Return a lab over a folder, which `up` starts."""
        return cls(folder, options or LabOptions())

    @classmethod
    def open(cls, folder: Path) -> "Lab":
        """Return the lab that runs in a folder, whoever started it; StartError where none does."""
        state = LabState.load(folder.resolve())
        if state is None or not state.is_up or not _runs(state):
            raise StartError(f"No lab runs in {folder}: start one by `api-server-cli lab up --folder {folder}`.")
        return cls(folder, state.options)

    # -- the whole

    def up(self) -> None:
        """Start everything and return when the primary accepts writes and its standbys stream.

        LabError where the lab runs already. What one that was killed left in the folder is ended and made anew.
        """
        self._refuse_what_is_no_labs()
        with self._turn():
            before = self._own
            if before is not None:
                if before.is_up and _runs(before):
                    raise LabError(f"A lab runs in {self.folder} already: use it, or end it by `lab down` first.")
                self._end(before)
            shutil.rmtree(self.folder / "nodes", ignore_errors=True)
            self._own = LabState.new(self.options)
            self._cluster.remember()
            try:
                self._begin()
                self._state.is_up = True
                self._cluster.remember()
            except BaseException:  # whatever it was, nothing may be left behind
                self._end(self._state)
                raise

    def down(self) -> None:
        """End every process of the lab, also after a half-made `up`; the folder stays. Nothing to do is no error.

        Also what runs of one whose folder was deleted; LabError where its state cannot be read, though all is ended.
        """
        try:
            if self.folder.is_dir():
                with self._turn():
                    if self._own is not None:
                        self._end(self._own)
        finally:
            kill_all(left_by_lab(self.folder))

    def status(self) -> LabStatus:
        """Return how everything is just now; what does not answer within two seconds is unreachable."""
        state = self._read()
        cluster = Cluster(self.folder, state)
        writer = cluster.writer()
        links: Mapping[str, str] = {}
        with suppress(LabError):
            links = self._switchboard.links()
        haproxy, pgbouncer = self._haproxy(state), self._pgbouncer(state)
        servers: Mapping[str, str] | None = None if haproxy is None else {}
        if haproxy is not None:
            with suppress(StartError):
                servers = {name: server.state for name, server in haproxy.states().items()}
        service, switchboard = state.processes.get("service"), state.processes.get("switchboard")
        # A link that was cut just now still looks like one over which a standby has nothing to tell.
        is_cut = writer is not None and links.get(f"replication-{writer.name}") == "drop"
        is_synchronous = writer is not None and not is_cut and bool(writer.hears_of())
        return LabStatus(
            writer=None if writer is None else writer.name,
            is_synchronous=is_synchronous,
            is_stuck=writer is not None and not is_synchronous and writer.waited_for != "",
            nodes=tuple(self._node_status(node, writer, cluster) for node in cluster.nodes),
            links=links,
            is_switchboard_running=switchboard is not None and switchboard.is_alive,
            haproxy=servers,
            is_haproxy_running=None if haproxy is None else haproxy.is_running,
            is_pgbouncer_running=None if pgbouncer is None else pgbouncer.is_running,
            service_pid=service.pid if service is not None and service.is_alive else None,
        )

    # -- where it is

    @property
    def node_names(self) -> tuple[str, ...]:
        """The nodes: `a`, `b`, perhaps `c`."""
        return self.options.node_names

    @property
    def link_names(self) -> tuple[str, ...]:
        """`clients-a` … are the links by which clients reach nodes, `replication-a` … those by which standbys do."""
        return tuple(f"{kind}-{name}" for kind in ("clients", "replication") for name in self.node_names)

    def writer(self) -> str | None:
        """Return the node that accepts writes, asked by SQL; the highest timeline where there are two."""
        writer = Cluster(self.folder, self._read()).writer()
        return None if writer is None else writer.name

    def address(self, node: str) -> PostgresAddress:
        """Return the way straight to a node, past the links and proxies."""
        return replace(Cluster(self.folder, self._read()).node(node).address, database=self.options.database)

    def addresses(self, route: Route = "direct") -> tuple[PostgresAddress, ...]:
        """Return what clients are given: the client link of each node, or the one address of a proxy."""
        state = self._read()
        if route == "direct":
            return tuple(self._client_address(f"clients-{name}", state) for name in self.node_names)
        has_it, port = {
            "haproxy": (self.options.haproxy, "haproxy-writer"),
            "pgbouncer": (self.options.pgbouncer, "pgbouncer"),
        }[route]
        if not has_it:
            raise LabError(f"This lab has no {route}: start it with --{route}.")
        return (self._client_address(port, state),)

    def readers(self) -> PostgresAddress:
        """Return where HAProxy leads to any node that answers."""
        if not self.options.haproxy:
            raise LabError("This lab has no haproxy: start it with --haproxy.")
        return self._client_address("haproxy-readers", self._read())

    @property
    def stats_url(self) -> str | None:
        """The page on which HAProxy shows what it knows."""
        return f"http://127.0.0.1:{self._read().ports['haproxy-stats']}/" if self.options.haproxy else None

    # -- who leads

    def promote(self, node: str | None = None, *, fence: bool = True) -> Promotion:
        """Make a standby the primary and return when it accepts writes: the one that has received most, if not named.

        With `fence` the old primary is killed first; either way it is never started again but by `rejoin`, and
        proxies do not use it any more. LabError where the standby may lack what was acknowledged; the old primary may
        be started again then. One that was broken off in the middle is finished.
        """
        with self._turn(must_be_up=True):
            if self._cluster.is_half_promoted:
                if node not in (None, self._state.primary):
                    raise LabError(f"The promotion of node {self._state.primary} is not finished: finish it first.")
                promotion = self._cluster.finish()
            else:
                promotion = self._promote(node, self._cluster.candidates(node), fence=fence)
            pgbouncer = self._pgbouncer(self._state)
            if pgbouncer is not None and not self.options.haproxy:
                with suppress(StartError):  # one that does not answer reads at its next start where to lead
                    pgbouncer.lead_to(self._client_address(f"clients-{promotion.node}", self._state))
            return promotion

    def _promote(self, node: str | None, candidates: Sequence[str], *, fence: bool) -> Promotion:
        old = self._state.primary
        before = self._state.proxy_states[old]
        if not fence:
            # It lives on: proxies that cannot be told would go on leading clients to it.
            self._set_proxy_state(old, "maint")
        try:
            self._cluster.fence(kill=fence)
            if fence:
                self._want_of_proxies(old, "maint")
            return self._cluster.promote(node, candidates)
        except StartError:
            if self._state.primary == old:
                self._cluster.unfence()
                self._want_of_proxies(old, before)
            raise

    def candidates(self) -> Sequence[str]:
        """Return the standbys that may be promoted; LabError where each may lack what was acknowledged."""
        with self._turn(must_be_up=True):
            return self._cluster.candidates()

    def flip(self) -> Promotion:
        """Switch over in good order: drain and stop the primary, promote a standby, have the old primary rejoin."""
        with self._turn(must_be_up=True):
            old = self._state.primary
            if self._cluster.is_half_promoted:
                raise LabError(f"The promotion of node {old} is not finished: `promote` finishes it.")
            self._cluster.candidates()
            before = self._state.proxy_states[old]
            self.drain(old)
            try:
                self.stop(old)
                promotion = self.promote()
            except StartError:
                if self._state.primary == old:
                    with suppress(StartError):
                        self._cluster.start(old)
                    self._want_of_proxies(old, before)
                raise
            self.rejoin(old)
            return promotion

    def rejoin(self, node: str) -> None:
        """Make a node a standby of the present primary and return when it streams: rewound, else copied anew."""
        with self._turn(must_be_up=True):
            self._cluster.rejoin(node)
            self._want_of_proxies(node, "ready")

    # -- what happens to nodes

    def kill(self, node: str) -> None:
        """Kill every process of a node at once, as a power cut would; commits wait no more for a standby that is."""
        with self._turn(must_be_up=True):
            self._cluster.node(node).kill()
            self._cluster.leave(node)

    def freeze(self, node: str) -> None:
        """Stop every process of a node where it stands; its connections stay open."""
        with self._turn(must_be_up=True):
            if not self._cluster.node(node).is_running:
                raise LabError(f"Node {node} does not run: there is nothing to freeze.")
            self._cluster.node(node).freeze()

    def thaw(self, node: str) -> None:
        """Have a frozen node go on; commits wait for a standby again that another promotion had to leave out."""
        with self._turn(must_be_up=True):
            if not self._cluster.node(node).is_frozen:
                raise LabError(f"Node {node} is not frozen.")
            self._cluster.node(node).thaw()
            self._cluster.welcome(node)

    def stop(self, node: str, mode: StopMode = "fast") -> None:
        """Shut a node down and return when it is; LabError where that takes more than 60 s, as `smart` may."""
        with self._turn(must_be_up=True):
            self._cluster.node(node).stop(mode)
            self._cluster.leave(node)

    def start(self, node: str) -> None:
        """Start a node again as what it was; LabError where it is an old primary, which may only `rejoin`."""
        with self._turn(must_be_up=True):
            self._cluster.start(node)

    # -- what happens on the way

    def cut(self, link: str) -> None:
        """Make a link a black hole (mode `drop`)."""
        self.set_link(link, "drop")

    def heal(self, link: str | None = None) -> None:
        """Have a link, or every link, pass again; connections that lost bytes meanwhile are reset."""
        for name in self.link_names if link is None else (link,):
            self.set_link(name, "pass")

    def set_link(self, link: str, mode: str) -> None:
        """Set a link's mode: `pass`, `drop`, `reset`, `delay:<ms>` or, for one COMMIT, `swallow-commit-reply`."""
        self._switchboard.set_link(link, mode)

    def drain(self, node: str) -> None:
        """Have proxies send a node no new clients."""
        with self._turn(must_be_up=True):
            self._set_proxy_state(node, "drain")

    def ready(self, node: str) -> None:
        """Have proxies use a node again; LabError where it is an old primary that has not rejoined."""
        with self._turn(must_be_up=True):
            if node in self._state.fenced:
                raise LabError(f"Node {node} is an old primary: it gets no clients before it did `rejoin`.")
            self._set_proxy_state(node, "ready")

    def maint(self, node: str) -> None:
        """Have proxies send a node nothing, and cut those that are on it."""
        with self._turn(must_be_up=True):
            self._set_proxy_state(node, "maint")

    def start_switchboard(self) -> None:
        """Start the switchboard, unless it runs: every link passes then."""
        with self._turn(must_be_up=True):
            running = self._state.processes.get("switchboard")
            if running is None or not running.is_alive:
                self._start_switchboard()
                wait_until(lambda: self._switchboard.is_ready, _SWITCHBOARD_TIMEOUT_S, "the switchboard works")
                for node, wanted in self._state.proxy_states.items():
                    self._switchboard.set_proxy_state(node, wanted)

    def kill_switchboard(self) -> None:
        """Kill the switchboard: no link passes any more."""
        with self._turn(must_be_up=True):
            if (switchboard := self._state.processes.get("switchboard")) is not None:
                switchboard.kill()

    def start_haproxy(self) -> None:
        """Start HAProxy, unless it runs; it is told again what is wanted of each node."""
        with self._turn(must_be_up=True):
            self._start_haproxy()

    def stop_haproxy(self) -> None:
        """End HAProxy in its own way."""
        with self._turn(must_be_up=True):
            _needed(self._haproxy(self._state), "haproxy").stop()

    def kill_haproxy(self) -> None:
        """Kill HAProxy."""
        with self._turn(must_be_up=True):
            _needed(self._haproxy(self._state), "haproxy").kill()

    def start_pgbouncer(self) -> None:
        """Start PgBouncer, unless it runs."""
        with self._turn(must_be_up=True):
            _needed(self._pgbouncer(self._state), "pgbouncer").start()

    def stop_pgbouncer(self) -> None:
        """End PgBouncer in its own way."""
        with self._turn(must_be_up=True):
            _needed(self._pgbouncer(self._state), "pgbouncer").stop()

    def kill_pgbouncer(self) -> None:
        """Kill PgBouncer."""
        with self._turn(must_be_up=True):
            _needed(self._pgbouncer(self._state), "pgbouncer").kill()

    def pgbouncer(self, command: str) -> Sequence[Mapping[str, str]]:
        """Give PgBouncer a command of its console (PAUSE, RESUME, RECONNECT, KILL …) and return what it answers."""
        # Takes no turn: a PAUSE that waits for clients would hold up the RESUME.
        return _needed(self._pgbouncer(self._read()), "pgbouncer").command(command)

    # -- the service

    def start_service(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Start a service beside the lab, which ends with it; return its process id. It writes `service.log`."""
        with self._turn(must_be_up=True):
            running = self._state.processes.get("service")
            if running is not None and running.is_alive:
                raise LabError(f"The lab's service runs already, as process {running.pid}.")
            self._state.service = list(command)
            self._state.service_environment = {
                name: value for name, value in environment.items() if os.environ.get(name) != value
            }
            log = self.folder / "service.log"
            return self._cluster.launch(
                "service", lambda: BackgroundProcess.start(command, log=log, environment=environment)
            ).pid

    def start_service_again(self) -> int:
        """Start the service that the lab had, in the environment of this process; return its process id."""
        with self._turn(must_be_up=True):
            if not self._state.service:
                raise LabError("This lab never had a service: `up --service` starts one.")
            return self.start_service(self._state.service, {**os.environ, **self._state.service_environment})

    def stop_service(self) -> None:
        """End the service in good order, if it runs."""
        with self._turn(must_be_up=True):
            if (service := self._state.processes.get("service")) is not None:
                service.stop(_SERVICE_STOP_TIMEOUT_S)

    def kill_service(self) -> None:
        """Kill the service and what it started, if it runs."""
        with self._turn(must_be_up=True):
            if (service := self._state.processes.get("service")) is not None:
                service.kill()

    # -- how it is done

    @property
    def _state(self) -> LabState:
        """What whoever has the turn works on."""
        if self._own is None:
            raise LabError(f"There is no lab in {self.folder}: start one by `api-server-cli lab up`.")
        return self._own

    def _read(self) -> LabState:
        """Return what the lab remembers, for those who only look."""
        if (state := LabState.load(self.folder)) is None:
            raise LabError(f"There is no lab in {self.folder}: start one by `api-server-cli lab up`.")
        return state

    @contextmanager
    def _turn(self, *, must_be_up: bool = False) -> Iterator[None]:
        """Wait until nobody else, in whatever process, changes the lab."""
        with self._mutex:
            if self._depth:
                yield
                return
            try:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                file = (self.folder / _LOCK).open("w")
            except OSError as error:
                raise LabError(f"The folder {self.folder} cannot be one of a lab: {error.strerror}.") from error
            with file as lock:
                wait_until(lambda: _locks(lock.fileno()), _TURN_TIMEOUT_S, f"others are done with {self.folder}")
                self._depth += 1
                try:
                    self._own = LabState.load(self.folder)
                    if must_be_up and not self._state.is_up:
                        raise LabError(f"The lab in {self.folder} is not up: start it by `api-server-cli lab up`.")
                    yield
                finally:
                    self._depth -= 1

    def _refuse_what_is_no_labs(self) -> None:
        """Raise LabError where a folder holds what no lab put there: none of that may be thrown away."""
        if not self.folder.is_dir() or LabState.load(self.folder) is not None:
            return
        try:
            others = sorted(entry.name for entry in self.folder.iterdir() if entry.name != _LOCK)
        except OSError as error:
            raise LabError(f"The folder {self.folder} cannot be one of a lab: {error.strerror}.") from error
        if others:
            raise LabError(f"The folder {self.folder} holds {others[0]!r}, and is no lab's: name an empty one.")

    def _begin(self) -> None:
        """Make the nodes and start all that the options name."""
        self._start_switchboard()
        self._cluster.make()
        wait_until(lambda: self._switchboard.is_ready, _SWITCHBOARD_TIMEOUT_S, "the switchboard works")
        self._cluster.replicate()
        self._start_haproxy()
        if (pgbouncer := self._pgbouncer(self._state)) is not None:
            pgbouncer.start()

    def _end(self, state: LabState) -> None:
        """End all that runs, and remember that; what fails keeps nothing else from its end."""
        with ExitStack() as ends:
            for node in Cluster(self.folder, state).nodes:
                ends.callback(node.end)
            if (switchboard := state.processes.get("switchboard")) is not None:
                ends.callback(switchboard.kill)
            for proxy in (self._haproxy(state), self._pgbouncer(state)):
                if proxy is not None:
                    ends.callback(proxy.stop)
            if (service := state.processes.get("service")) is not None:
                ends.callback(service.stop, _SERVICE_STOP_TIMEOUT_S)
        state.is_up = False
        state.processes.clear()
        state.save(self.folder)

    def _start_switchboard(self) -> None:
        ports = self._state.ports
        self._switchboard.configure(
            links={name: (ports[name], ports[f"node-{name.rpartition('-')[2]}"]) for name in self.link_names},
            agents={name: (ports[f"agent-{name}"], ports[f"node-{name}"]) for name in self.node_names},
            conninfo={"host": "127.0.0.1", "user": USER, "password": self.options.password, "dbname": "postgres"},
        )
        command = [sys.executable, "-m", "api_server.local.switchboard", str(self.folder)]
        log = self.folder / "switchboard.log"
        self._cluster.launch("switchboard", lambda: BackgroundProcess.start(command, log=log))

    def _start_haproxy(self) -> None:
        if (haproxy := self._haproxy(self._state)) is not None and not haproxy.is_running:
            haproxy.start([name for name, wanted in self._state.proxy_states.items() if wanted == "maint"])
            for name, wanted in self._state.proxy_states.items():
                if wanted != "ready":
                    haproxy.set_state(name, wanted)

    def _set_proxy_state(self, node: str, wanted: ServerState) -> None:
        self._cluster.node(node)
        before = self._state.proxy_states[node]
        self._switchboard.set_proxy_state(node, wanted)
        try:
            if (haproxy := self._haproxy(self._state)) is not None and haproxy.is_running:
                haproxy.set_state(node, wanted)
        except StartError:
            self._switchboard.set_proxy_state(node, before)
            raise
        self._state.proxy_states[node] = wanted
        self._cluster.remember()

    def _want_of_proxies(self, node: str, wanted: ServerState) -> None:
        """Remember what is wanted, and tell those that listen: the others are told when they are started again."""
        self._state.proxy_states[node] = wanted
        self._cluster.remember()
        with suppress(StartError):
            self._switchboard.set_proxy_state(node, wanted)
        with suppress(StartError):
            if (haproxy := self._haproxy(self._state)) is not None and haproxy.is_running:
                haproxy.set_state(node, wanted)

    # What there is.

    @property
    def _cluster(self) -> Cluster:
        return Cluster(self.folder, self._state)

    def _node_status(self, node: Node, writer: Node | None, cluster: Cluster) -> NodeStatus:
        role = node.role()
        return NodeStatus(
            name=node.name,
            role=role,
            timeline=node.timeline() if role in {"primary", "standby"} else None,
            lag_bytes=cluster.lag_of(node, writer) if role == "standby" and writer is not None else None,
            pid=node.process.pid if node.process is not None and node.is_running else None,
            port=node.address.port,
            is_frozen=node.is_frozen,
            is_fenced=node.name in cluster.state.fenced,
            proxy_state=cluster.state.proxy_states[node.name],
        )

    def _client_address(self, port: str, state: LabState) -> PostgresAddress:
        options = state.options
        return PostgresAddress("127.0.0.1", state.ports[port], USER, options.database, options.password)

    def _haproxy(self, state: LabState) -> "HAProxy | None":
        if not state.options.haproxy:
            return None
        from api_server.local.haproxy import HAProxy, HAProxyPorts, ProxiedServer  # noqa: PLC0415 - not in every lab

        ports = HAProxyPorts(**{name: state.ports[f"haproxy-{name}"] for name in HAProxyPorts.__slots__})
        names = state.options.node_names
        servers = [ProxiedServer(name, state.ports[f"clients-{name}"], state.ports[f"agent-{name}"]) for name in names]
        return HAProxy(self.folder / "haproxy", ports, servers)

    def _pgbouncer(self, state: LabState) -> "PgBouncer | None":
        if not state.options.pgbouncer:
            return None
        from api_server.local.pgbouncer import PgBouncer  # noqa: PLC0415 - not in every lab

        behind = "haproxy-writer" if state.options.haproxy else f"clients-{state.primary}"
        return PgBouncer(self.folder / "pgbouncer", state.ports["pgbouncer"], self._client_address(behind, state))


def _needed(part: _Part | None, name: str) -> _Part:
    if part is None:
        raise LabError(f"This lab has no {name}: start it with --{name}.")
    return part


def _runs(state: LabState) -> bool:
    return any(process.is_alive for process in state.processes.values())


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
