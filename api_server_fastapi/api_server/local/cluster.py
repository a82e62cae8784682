"""Nodes of which one leads and the others follow: who may take its place, and for whom commits wait."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from api_server.local.background import BackgroundProcess
from api_server.local.lab_state import LabState
from api_server.local.replication import LabError, Node, position, wait_until, write_passwords
from api_server.processes import signals_deferred

_STREAM_TIMEOUT_S = 15.0
# How long commits of a new primary may wait for a standby that is on its way to it.
_GRACE_S = 3.0

_WRITTEN = "SELECT pg_current_wal_lsn()::text"


@dataclass(frozen=True, slots=True)
class Promotion:
    """Which node became the primary, and since when (`time.monotonic()`) it accepts writes.

    Under synchronous replication its commits may wait on for a standby to reach it, until `commits_at`.
    """

    node: str
    timeline: int
    accepts_writes_at: float
    commits_at: float


@dataclass(frozen=True, slots=True)
class Cluster:
    """The nodes of a lab as its state means them to be; each step is remembered before the next one."""

    folder: Path
    state: LabState

    def node(self, name: str) -> Node:
        """Return a node; LabError where there is none of that name."""
        state = self.state
        if name not in state.options.node_names:
            raise LabError(f"There is no node {name!r}, but {', '.join(state.options.node_names)}.")
        return Node(
            name,
            self.folder / "nodes" / name,
            port=state.ports[f"node-{name}"],
            password=state.options.password,
            options=state.options.postgres_options,
            process=state.processes.get(f"node-{name}"),
        )

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(map(self.node, self.state.options.node_names))

    @property
    def primary(self) -> Node:
        """The node that is meant to lead, whether it runs or not."""
        return self.node(self.state.primary)

    def writer(self) -> Node | None:
        """Return the node that accepts writes, asked by SQL; the highest timeline where there are two."""
        writers = [(node.timeline() or 0, node) for node in self.nodes if node.is_running and node.accepts_writes()]
        return max(writers, key=lambda writer: writer[0])[1] if writers else None

    def lag_of(self, node: Node, writer: Node) -> int | None:
        """Return how many bytes of what the writer has written a standby has yet to receive."""
        row, received = writer.ask(_WRITTEN), node.received()
        return None if row is None or received is None else max(0, position(row[0]) - received)

    def remember(self) -> None:
        """Write the state down."""
        self.state.save(self.folder)

    def launch(self, name: str, start: Callable[[], BackgroundProcess]) -> BackgroundProcess:
        """Start a process and remember it, which no signal comes between."""
        with signals_deferred():
            process = self.state.processes[name] = start()
            self.remember()
        return process

    # -- the beginning

    def make(self) -> None:
        """Make the nodes, start them, and have a database."""
        (self.folder / "nodes").mkdir(mode=0o700)
        write_passwords(self.folder / "nodes", self.state.options.password)
        primary, *standbys = self.nodes
        primary.make()
        for standby in standbys:
            standby.copy(primary)
            standby.become_standby()
        for node in self.nodes:
            self._configure(node.name)
            self.launch(f"node-{node.name}", node.launch)
        for node in self.nodes:
            node.wait_until_it_answers()
        with primary.session(timeout_s=30) as session:
            database = sql.Identifier(self.state.options.database)
            session.execute(sql.SQL("CREATE DATABASE {}").format(database))

    def replicate(self) -> None:
        """Return when every standby streams and shows all there is, and commits wait for one of them if they shall."""
        row = self.primary.ask(_WRITTEN)
        written = 0 if row is None else position(row[0])
        for name in self.state.standbys:
            self._wait_until_it_streams(name)
        standbys = [self.node(name) for name in self.state.standbys]
        wait_until(
            lambda: all((standby.replayed() or 0) >= written for standby in standbys),
            _STREAM_TIMEOUT_S,
            "the standbys show what the primary wrote",
        )
        for name in self.state.standbys:
            self.join(name)

    # -- who leads

    def candidates(self, node: str | None = None) -> list[str]:
        """Return the standbys that answer and lack nothing that was acknowledged; LabError where `node` is none."""
        if node is not None and node not in self.state.standbys:
            raise LabError(f"Node {self.node(node).name} is no standby: it cannot be promoted.")
        answering = [name for name in self.state.standbys if self.node(name).is_standby()]
        if node is not None and node not in answering:
            raise LabError(f"Node {node} does not answer: it cannot be promoted.")
        # Commits waited for these only. Without waiting whoever is there has to do.
        whole = [name for name in answering if name in self.state.waits_for or not self.state.options.synchronous]
        if node not in (None, *whole) or not whole:
            who = "Every standby" if node is None else f"Node {node}"
            raise LabError(f"{who} may lack acknowledged commits: start node {self.state.primary} again instead.")
        return whole

    def fence(self, *, kill: bool) -> None:
        """Have the primary never be started again as one, and kill it if so wanted."""
        if self.state.primary not in self.state.fenced:
            self.state.fenced.append(self.state.primary)
            self.remember()
        if kill:
            self.primary.kill()

    def unfence(self) -> None:
        """Take the fence from a primary in whose place nobody came, so that it may be started again."""
        self.state.fenced = [name for name in self.state.fenced if name != self.state.primary]
        self.state.follows |= dict.fromkeys(self.state.standbys, self.state.primary)
        self.remember()
        for name in self.state.standbys:
            self._configure(name)

    @property
    def is_half_promoted(self) -> bool:
        """Whether a node was chosen to lead and does not yet: its promotion failed, or was broken off."""
        return self.state.primary in self.state.follows

    def promote(self, node: str | None, candidates: Sequence[str]) -> Promotion:
        """Make a candidate the primary, and return when it accepts writes: the one that has most, if not named."""
        chosen = max(candidates, key=lambda name: self.node(name).received() or 0)
        if node is not None and node != chosen:
            self._catch_up(node, chosen)
            chosen = node
        self._have_others_follow(chosen)
        return self.finish()

    def finish(self) -> Promotion:
        """Have the node that was chosen lead, and return when it accepts writes; also what another one began."""
        chosen = self.state.primary
        try:
            accepts_writes_at = time.monotonic() if self.primary.accepts_writes() else self.primary.promote()
        except psycopg.Error as error:
            raise LabError(f"Node {chosen} was to lead and does not answer: start it, then `promote`.") from error
        self._wait_for_a_standby()
        commits_at = time.monotonic()
        promotion = Promotion(chosen, self.primary.timeline() or 0, accepts_writes_at, commits_at)
        self.state.follows.pop(chosen, None)
        self.remember()
        self._configure(chosen)
        return promotion

    def _catch_up(self, node: str, ahead: str) -> None:
        """Have a standby receive from another one what that has and it has not."""
        wanted = self.node(ahead).received() or 0
        if (self.node(node).received() or 0) >= wanted:
            return
        self.state.follows[node] = ahead
        self.remember()
        self._configure(node)
        wait_until(lambda: (self.node(node).received() or 0) >= wanted, _STREAM_TIMEOUT_S, f"node {node} catches up")

    def _have_others_follow(self, chosen: str) -> None:
        """Lead the standbys to the next primary: before it leads, so that its commits do not wait for them long."""
        state = self.state
        state.primary = chosen
        state.follows |= dict.fromkeys(state.standbys, chosen)
        present = [name for name in state.standbys if self.node(name).is_running and not self.node(name).is_frozen]
        state.waits_for = present if state.options.synchronous else []
        self.remember()
        for name in (*state.standbys, chosen):
            self._configure(name)

    # -- who is there

    def start(self, node: str) -> None:
        """Start a node again as what it was; LabError where it is an old primary."""
        if node in self.state.fenced:
            raise LabError(
                f"Node {node} is an old primary: started, it would be a second one. `rejoin` makes it a standby."
            )
        if self.node(node).is_running:
            raise LabError(f"Node {node} runs already.")
        if node == self.state.primary:
            self._resume()
            return
        self._follow(node)
        self.welcome(node)

    def rejoin(self, node: str) -> None:
        """Make a node a standby of the primary and return when it streams: rewound, else copied anew."""
        if node == self.state.primary:
            raise LabError(f"Node {node} is the primary: it has nobody to rejoin.")
        if self.is_half_promoted:
            raise LabError(f"The promotion of node {self.state.primary} is not finished: `promote` finishes it.")
        if not self.primary.accepts_writes():
            raise LabError(f"Node {self.state.primary} is the primary and does not answer: start, thaw or replace it.")
        self.node(node).kill()
        self.leave(node)
        if not self._is_rewound(node):
            self.node(node).kill()
            self.node(node).clone(self.primary)
            self._follow(node)
            self._wait_until_it_streams(node)
        self.state.fenced = [name for name in self.state.fenced if name != node]
        self.remember()
        self.join(node)

    def welcome(self, node: str) -> None:
        """Have a standby that is there again join, if there is a primary."""
        if node in self.state.standbys and node not in self.state.waits_for and self.primary.accepts_writes():
            self._wait_until_it_streams(node)
            self.join(node)

    def join(self, node: str) -> None:
        """Have commits wait for a standby that streams, too, if they shall wait."""
        if self.state.options.synchronous and node not in self.state.waits_for:
            self._set_waits_for((*self.state.waits_for, node))
            wait_until(lambda: self.primary.is_waited_for, _STREAM_TIMEOUT_S, f"node {node} is synchronous")

    def leave(self, node: str) -> None:
        """Have commits of a primary that runs wait no more for a standby that does not."""
        primary = self.primary
        if node not in self.state.waits_for or not primary.is_running or primary.is_frozen:
            return
        others = [name for name in self.state.waits_for if name != node]
        self._set_waits_for(others)
        # What only the one that left had acknowledged, another one has to have before anything happens to the primary.
        if others and (row := primary.ask(_WRITTEN)) is not None:
            written = position(row[0])
            wait_until(
                lambda: max(self.node(name).received() or 0 for name in others) >= written,
                _STREAM_TIMEOUT_S,
                f"another standby has what {primary.name} wrote",
            )

    def _resume(self) -> None:
        """Start the primary again; its commits wait for the standbys that run."""
        state, primary = self.state, self.primary
        present = [name for name in state.standbys if self.node(name).is_standby()]
        state.waits_for = present if state.options.synchronous else []
        self.remember()
        self._configure(primary.name)
        self.launch(f"node-{primary.name}", primary.launch)
        primary.wait_until_it_answers()
        if self.is_half_promoted:
            self.finish()
            return
        wait_until(primary.accepts_writes, _STREAM_TIMEOUT_S, f"node {primary.name} accepts writes")
        self._wait_for_a_standby()

    def _is_rewound(self, node: str) -> bool:
        """Rewind a node and start it; False where it has to be copied instead."""
        if self.node(node).rewind(self.primary):
            return False
        try:
            self._follow(node)
            self._wait_until_it_streams(node)
        except LabError:
            return False
        return True

    def _follow(self, node: str) -> None:
        """Start a node as a standby of the primary."""
        self.state.follows[node] = self.state.primary
        self.remember()
        self.node(node).become_standby()
        self._configure(node)
        self.launch(f"node-{node}", self.node(node).launch)
        self.node(node).wait_until_it_answers()

    def _wait_for_a_standby(self) -> None:
        """Give standbys time to reach the primary; it takes writes alone where none of them does."""
        if not self.state.waits_for:
            return
        try:
            wait_until(lambda: self.primary.is_waited_for, _GRACE_S, "a standby has reached the primary")
        except LabError:
            self._set_waits_for(())

    def _wait_until_it_streams(self, node: str) -> None:
        what = f"node {node} streams from {self.primary.name} (is its link cut, or has it to `rejoin`?)"
        wait_until(lambda: node in self.primary.streaming(), _STREAM_TIMEOUT_S, what)

    def _set_waits_for(self, standbys: Sequence[str]) -> None:
        self.state.waits_for = list(standbys)
        self.remember()
        self._configure(self.state.primary)

    def _configure(self, name: str) -> None:
        """Write what a node is meant to be, and have it read that if it runs."""
        state = self.state
        follows = state.follows.get(name)
        self.node(name).configure(
            follows=None if follows is None else state.ports[f"replication-{follows}"],
            waits_for=state.waits_for if name == state.primary else (),
        )
