"""PostgreSQL nodes that replicate each other: how one is made, started, broken and brought back."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, LiteralString

import psycopg

from api_server.exceptions import StartError
from api_server.local.background import BackgroundProcess, kill_all, working_in
from api_server.local.binaries import as_ordinary_user, changes_user, postgres_binaries
from api_server.local.postgres import PostgresAddress

USER = "postgres"

Role = Literal["primary", "standby", "unreachable", "stopped"]

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 5.0
_POLL_S = 0.01
_PROMOTE_TIMEOUT_S, _PROMOTE_POLL_S = 30.0, 0.005
_STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

_ROLE = "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'"
_TIMELINE = """
SELECT CASE WHEN pg_is_in_recovery()
    THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver), (SELECT timeline_id FROM pg_control_checkpoint()))
    ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END
"""
_RECEIVED = "SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::text"

# Of what a server that does not start wrote, that which tells why.
_COMPLAINTS = ("PANIC:", "could not", "unrecognized", "invalid value", "lock file")

# Data that survives the death of processes, though not a power cut. What `pg_rewind` needs: whole pages in the WAL
# (and checksums, from initdb), and WAL that is kept while a standby is away.
_SETTINGS = (
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "full_page_writes=on",
    "wal_level=replica",
    "hot_standby=on",
    "synchronous_commit=on",
    "max_wal_senders=10",
    "wal_keep_size=256MB",
    "wal_retrieve_retry_interval=100ms",
    "wal_receiver_status_interval=1s",
    "wal_receiver_timeout=10s",
    "wal_sender_timeout=10s",
    "shared_buffers=32MB",
    "jit=off",
    "log_line_prefix=%m [%p] ",
    "timezone=UTC",
)


class LabError(StartError):
    """The lab cannot do what was asked; the message says in a sentence why."""


class Node:
    """One PostgreSQL of a cluster: its data, its configuration, its processes."""

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        port: int,
        password: str,
        options: Sequence[str],
        process: BackgroundProcess | None,
    ) -> None:
        self.name = name
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "server.log"
        self.process = process
        self.address = PostgresAddress("127.0.0.1", port, USER, "postgres", password)
        self._options = tuple(options)
        self._configuration = folder / "postgresql.conf"
        # Of the whole lab: libpq compares what is in it with the port that it connects to.
        self._passwords = folder.parent / "passwords"

    # -- how it comes to its data

    def make(self) -> None:
        """Make the data of a new primary."""
        self.folder.mkdir(parents=True, mode=0o700)
        password = self.folder / "password.new"
        write_secret(password, self.address.password + "\n")
        _give(self.folder, password)
        arguments = ("-U", USER, "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--locale=C", "-k", "-N")
        made = self._run("initdb", "-D", self.data, *arguments)
        password.unlink()
        if made:
            raise LabError(f"The data of node {self.name} cannot be made: {made}")

    def copy(self, source: "Node") -> None:
        """Take over the data of a node that does not run, so as to follow it."""
        self.folder.mkdir(parents=True, mode=0o700)
        _give(self.folder)
        shutil.copytree(source.data, self.data, copy_function=shutil.copy)
        _give(*self.data.rglob("*"), self.data)

    def clone(self, source: "Node") -> None:
        """Throw the data away and copy that of a node that runs."""
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        arguments = ("-X", "stream", "-c", "fast", "--no-sync", "--no-password")
        if complaint := self._run("pg_basebackup", "-D", fresh, "-d", self._conninfo(source.address.port), *arguments):
            raise LabError(f"Node {self.name} cannot be copied from {source.name}: {complaint}")
        shutil.rmtree(self.data, ignore_errors=True)
        fresh.rename(self.data)

    def rewind(self, source: "Node") -> str:
        """Undo what this node, which does not run, wrote and `source` does not know; return a complaint or nothing."""
        # A server in recovery, which single-user mode knows nothing of, cannot be brought to a clean end.
        (self.data / "standby.signal").unlink(missing_ok=True)
        self._forget_the_dead()
        # Up to PostgreSQL 15 pg_rewind reads the source's timeline from its last checkpoint.
        source.execute("CHECKPOINT")
        origin = f"--source-server={self._conninfo(source.address.port)}"
        return self._run("pg_rewind", "-D", self.data, origin, "--no-sync")

    # -- what it is configured for

    def configure(self, *, follows: int | None, waits_for: Sequence[str] = ()) -> None:
        """Write its settings: the port from which it streams, the standbys for one of which commits wait."""
        settings = [*_SETTINGS, f"port={self.address.port}", *self._options]
        if follows is not None:
            settings.append(f"primary_conninfo={self._conninfo(follows)} application_name={self.name}")
        names = f"ANY 1 ({', '.join(waits_for)})" if waits_for else ""
        settings.append(f"synchronous_standby_names={names}")
        lines = (f"{name} = {_quoted(value)}" for name, _, value in (setting.partition("=") for setting in settings))
        fresh = self._configuration.with_suffix(".new")
        fresh.write_text("\n".join(lines) + "\n")
        _give(fresh)
        fresh.replace(self._configuration)
        if self.process is not None:
            self.process.send(signal.SIGHUP)

    def become_standby(self) -> None:
        """Have its next start be that of a standby."""
        (self.data / "standby.signal").touch()
        _give(self.data / "standby.signal")

    # -- its processes

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.is_alive

    @property
    def is_frozen(self) -> bool:
        return self.process is not None and self.process.is_stopped

    def launch(self) -> BackgroundProcess:
        """Start the server and return at once."""
        self._forget_the_dead()
        hba = self.data / "pg_hba.conf"
        files = (f"config_file={self._configuration}", f"hba_file={hba}")
        options = [part for file in files for part in ("-c", file)]
        command: list[str | Path] = [*as_ordinary_user(), postgres_binaries() / "postgres", "-D", self.data, *options]
        self.process = BackgroundProcess.start(command, log=self.log, environment=_environment())
        return self.process

    def wait_until_it_answers(self) -> None:
        """Return when the server takes sessions."""

        def answers() -> bool:
            if not self.is_running:
                raise LabError(f"Node {self.name} does not start: {self._last_complaint()} See {self.log}.")
            return self.ask("SELECT 1") is not None

        wait_until(answers, _START_TIMEOUT_S, f"node {self.name} takes sessions")

    def stop(self, mode: str) -> None:
        """Shut the server down in one of PostgreSQL's ways."""
        if self.process is None:
            return
        family = self._processes()
        self.process.send(_STOP_SIGNALS[mode])
        if not self.process.wait(_STOP_TIMEOUT_S):
            raise LabError(f"Node {self.name} did not shut down within {_STOP_TIMEOUT_S:g} s (mode {mode}).")
        if mode == "immediate":
            kill_all(family)

    def end(self) -> None:
        """End it at once, whatever state it is in; in its own way if it can, as a killed one leaves shared memory."""
        self.thaw()
        if self.process is not None:
            self.process.send(_STOP_SIGNALS["immediate"])
            self.process.wait(_END_TIMEOUT_S)
        kill_all(self._processes())

    def promote(self) -> float:
        """Make this standby a primary, and return when it accepts writes: that moment, of `time.monotonic()`."""
        with self.session(_PROMOTE_TIMEOUT_S) as session:
            session.execute("SELECT pg_promote(false)")
            what = f"node {self.name} accepts writes"
            wait_until(lambda: session.execute(_ROLE).fetchone() == (True,), _PROMOTE_TIMEOUT_S, what, _PROMOTE_POLL_S)
            return time.monotonic()

    def kill(self) -> None:
        """Kill all that belongs to the server, at once; also what a postmaster that is gone left behind."""
        if self.process is not None:
            self.process.send(signal.SIGSTOP)  # it starts no more
        kill_all(self._processes())

    def freeze(self) -> None:
        """Stop all processes where they stand."""
        stopped: set[int] = set()
        while unstopped := [process for process in self._processes() if process.pid not in stopped]:
            for process in unstopped:
                process.send(signal.SIGSTOP)
                stopped.add(process.pid)

    def thaw(self) -> None:
        """Have all processes go on."""
        for process in reversed(self._processes()):
            process.send(signal.SIGCONT)

    def _processes(self) -> tuple[BackgroundProcess, ...]:
        """Find the postmaster, then what it started; that works in its data folder though the postmaster is dead."""
        family = self.process.family() if self.process is not None else ()
        return (*family, *(process for process in working_in(self.data) if process not in family))

    def _forget_the_dead(self) -> None:
        """Remove what a killed server says of itself: its number may be that of another process now."""
        if self.is_running or working_in(self.data):
            raise LabError(f"Node {self.name} is running.")
        file = self.data / "postmaster.pid"
        # One whose number is nobody's the next server removes itself, and with it the shared memory that it names.
        if file.exists() and Path("/proc", file.read_text().split("\n")[0]).exists():
            file.unlink()

    # -- what it says

    def ask(self, query: LiteralString) -> tuple[Any, ...] | None:
        """Return the first row that it answers; None where it does not answer."""
        try:
            with self.session() as session:
                return session.execute(query).fetchone()
        except psycopg.OperationalError:
            return None

    def execute(self, statement: LiteralString) -> None:
        """Have it do something that returns nothing."""
        try:
            with self.session(timeout_s=30) as session:
                session.execute(statement)
        except psycopg.Error as error:
            raise LabError(f"Node {self.name} does not do {statement!r}: {' '.join(str(error).split())}") from error

    def session(self, timeout_s: float = 1.0) -> psycopg.Connection[tuple[Any, ...]]:
        """Open a session straight to the node; what takes longer than its time ends in an error."""
        if self.is_frozen:
            raise psycopg.OperationalError(f"node {self.name} is frozen")
        options = f"-c statement_timeout={timeout_s * 1000:.0f}"
        return psycopg.connect(self.address.url, autocommit=True, connect_timeout=2, options=options)

    def accepts_writes(self) -> bool:
        """Whether it is a primary that takes writes."""
        return self.ask(_ROLE) == (True,)

    def is_standby(self) -> bool:
        """Whether it answers, and is in recovery."""
        return self.ask("SELECT pg_is_in_recovery()") == (True,)

    def role(self) -> Role:
        """Return what it is just now; one that runs and does not answer is unreachable."""
        if not self.is_running:
            return "stopped"
        row = self.ask("SELECT pg_is_in_recovery()")
        if row is None:
            return "unreachable"
        return "standby" if row[0] else "primary"

    def hears_of(self) -> frozenset[str]:
        """Return the standbys for one of which commits wait, and that told just now how far they are."""
        try:
            with self.session() as session:
                query = """
                    SELECT application_name FROM pg_stat_replication
                    WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum')
                        AND coalesce(clock_timestamp() - reply_time < interval '3 s', true)
                """
                return frozenset(name for (name,) in session.execute(query).fetchall())
        except psycopg.OperationalError:
            return frozenset()

    @property
    def waited_for(self) -> str:
        """What `synchronous_standby_names` holds: with nothing, commits wait for nobody."""
        row = self.ask("SELECT current_setting('synchronous_standby_names')")
        return "" if row is None else str(row[0])

    @property
    def is_waited_for(self) -> bool:
        """Whether commits of this primary wait for a standby, and one is there."""
        return bool({"sync", "quorum"} & set(self.streaming().values()))

    def timeline(self) -> int | None:
        """Return the timeline that it writes, or follows."""
        row = self.ask(_TIMELINE)
        return None if row is None else int(row[0])

    def received(self) -> int | None:
        """Return the position up to which a standby has the WAL; None where it does not answer or has none."""
        return self._position(_RECEIVED)

    def replayed(self) -> int | None:
        """Return the position up to which a standby shows what it has received."""
        return self._position("SELECT pg_last_wal_replay_lsn()::text")

    def _position(self, query: LiteralString) -> int | None:
        row = self.ask(query)
        return None if row is None or row[0] is None else position(row[0])

    def streaming(self) -> Mapping[str, str]:
        """Return the standbys that have caught up with this primary, each with what their acknowledgement counts."""
        try:
            with self.session() as session:
                query = "SELECT application_name, sync_state FROM pg_stat_replication WHERE state = 'streaming'"
                return dict(session.execute(query).fetchall())
        except psycopg.OperationalError:
            return {}

    # -- programs

    def _conninfo(self, port: int) -> str:
        passwords = str(self._passwords).replace("\\", r"\\").replace("'", r"\'")
        return f"host=127.0.0.1 port={port} user={USER} passfile='{passwords}' connect_timeout=2"

    def _run(self, program: str, *arguments: str | Path) -> str:
        """Run one of PostgreSQL's programs; return its complaint, or nothing where it succeeded."""
        done = subprocess.run(
            [*as_ordinary_user(), postgres_binaries() / program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=self.folder,
            env=_environment(),
            # Ctrl-C is for who waits for it, and may not be ended in the middle; what is made anew is.
            start_new_session=program != "initdb",
            check=False,
        )
        if done.returncode == 0:
            return ""
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return lines[-1].strip() if lines else f"{program} ended with {done.returncode} and gave no reason."

    def _last_complaint(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        complaints = [line for line in lines if any(sign in line for sign in _COMPLAINTS)]
        return f"{complaints[-1].partition(':  ')[2].rstrip('.')}." if complaints else "it gave no reason."


def write_passwords(nodes_folder: Path, password: str) -> None:
    """Write the file by which nodes log in at each other; it is for its owner only."""
    file = nodes_folder / "passwords"
    escaped = password.replace("\\", r"\\").replace(":", r"\:")
    write_secret(file, f"127.0.0.1:*:*:{USER}:{escaped}\n")
    _give(nodes_folder, file)


def write_secret(file: Path, text: str) -> None:
    """Write a file that only its owner may read, at once and whole."""
    fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(file)


def wait_until(holds: Callable[[], bool], timeout_s: float, what: str, every_s: float = _POLL_S) -> None:
    """Return when something holds; LabError where it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise LabError(f"Waited {timeout_s:g} s in vain until {what}.")
        time.sleep(every_s)


def position(lsn: str) -> int:
    """Return a position in the WAL, which PostgreSQL writes as two hexadecimal numbers, as one number."""
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _give(*paths: Path) -> None:
    """Give files to the account that PostgreSQL runs as, where that is another one."""
    if changes_user():
        for path in paths:
            shutil.chown(path, "nobody", "nogroup")
