"""An embedded PostgreSQL: a data folder, a server over it, and who may stop it."""

import fcntl
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql

from api_server.exceptions import StartError
from api_server.local.binaries import as_ordinary_user, changes_user, major_version, postgres_binaries
from api_server.processes import signals_deferred

_USER = "postgres"
_START_TIMEOUT_S = 60
_START_ATTEMPTS = 3

# Lines of a postmaster.pid, counted from 0.
_PID_LINE, _PORT_LINE, _STATUS_LINE = 0, 3, 7


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """How to reach a database."""

    host: str
    port: int
    user: str
    database: str
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"


@contextmanager
def embedded_postgres(
    folder: Path, database: str, *, say: Callable[[str], None] = print, options: Sequence[str] = ()
) -> Iterator[PostgresAddress]:
    """Run a PostgreSQL on loopback with its data under `folder`, for as long as the context lasts.

    The first process that uses a folder makes the data and starts the server, or adopts one that a killed process left
    behind; others share it; the last one to leave stops it. `options` are `name=value` settings of the server. Raises
    StartError, with what to do, where that is not possible.
    """
    cluster = PostgresCluster(folder, say, options)
    with cluster.in_use():
        yield cluster.address(database)


class PostgresCluster:
    """A data folder and the server over it, driven through `pg_ctl`; port 0 takes a free one at each start."""

    def __init__(
        self, folder: Path, say: Callable[[str], None] = print, options: Sequence[str] = (), *, port: int = 0
    ) -> None:
        self.folder = folder.resolve()
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self._password_file = self.data / "password"
        self._say = say
        self._options = tuple(options)
        self._port = port

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Have the server running for as long as the context, and stop it at the end if nobody else uses it.

        Each user holds the file `users.lock`, and `turn.lock` while starting or stopping. The kernel gives up the
        locks of a process that is killed.
        """
        _check_for_the_shell(self.folder, postgres_binaries())
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            files = (self.folder / "users.lock").open("w"), (self.folder / "turn.lock").open("w")
        except OSError as error:
            raise StartError(
                f"The data folder {self.folder} cannot be written: {error.strerror}. Make it writable, or set "
                "PICCOLO_DB_HOST to a server that runs."
            ) from error
        with files[0] as users, files[1] as turn:
            is_user = False
            try:
                with self._turn(turn):
                    fcntl.flock(users, fcntl.LOCK_SH)
                    is_user = True
                    self.prepare()
                    self.start()
                yield
            finally:
                if is_user:
                    with self._turn(turn):
                        if _locks_alone(users):
                            self.stop()

    @contextmanager
    def _turn(self, turn: IO[str]) -> Iterator[None]:
        """Wait for one's turn; signals wait too, so that nobody leaves a server behind that was just starting."""
        if not _locks_alone(turn):
            self._say("Waiting for another process that starts or stops this PostgreSQL …")
            deadline = time.monotonic() + _START_TIMEOUT_S
            while not _locks_alone(turn):
                if time.monotonic() > deadline:
                    raise StartError(f"Another process has been starting or stopping {self.folder} for too long.")
                time.sleep(0.05)
        try:
            with signals_deferred():
                yield
        finally:
            fcntl.flock(turn, fcntl.LOCK_UN)

    def prepare(self) -> None:
        """Make the data folder, unless a whole one is there; one that is not whole is moved aside."""
        unfinished = self.folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        if self.data.exists() and not self._is_whole():
            aside = self.folder / f"data.incomplete-{time.strftime('%Y%m%d-%H%M%S')}"
            self.data.rename(aside)
            self._say(f"The data folder was incomplete; it is kept as {aside}.")
        if not self.data.exists():
            self._make(unfinished)
        self._check_fits()

    def start(self) -> None:
        """Start the server on a free port of loopback, or adopt the one that runs already."""
        server = self._server()
        if server is not None and server.is_ours:
            self._say("Using the PostgreSQL that runs already.")
            return
        self._say("Starting PostgreSQL …")
        if server is not None and server.is_somebody_else:
            # PostgreSQL could not tell that process from one of its own. The pid of a dead one stays: by what stands
            # beside it the server finds out whether others of its processes are still there.
            (self.data / "postmaster.pid").unlink()
        for attempt in range(1, _START_ATTEMPTS + 1):
            if self._pg_ctl(
                "start", "-w", "-t", str(_START_TIMEOUT_S), "-l", str(self.log), "-o", self._server_options()
            ):
                return
            if (server := self._server()) is not None and server.is_ours:
                return
            if attempt < _START_ATTEMPTS:
                time.sleep(0.5)  # the port was taken meanwhile, or processes of a killed server are still leaving
        raise StartError(f"PostgreSQL does not start: {self._last_complaint()} The whole story is in {self.log}.")

    def stop(self) -> None:
        """Stop the server, if it runs, without waiting for clients to leave."""
        server = self._server()
        if server is not None and server.is_ours and not self._pg_ctl("stop", "-w", "-m", "fast"):
            self._pg_ctl("stop", "-w", "-m", "immediate")

    def address(self, database: str) -> PostgresAddress:
        """Return how to reach a database of the running server, made if it does not exist."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while (server := self._server()) is None or not server.is_ours or not server.is_ready:
            if time.monotonic() > deadline:
                raise StartError(f"The PostgreSQL over {self.folder} does not get ready; see {self.log}.")
            time.sleep(0.05)
        password = self._password_file.read_text().strip()
        address = PostgresAddress("127.0.0.1", server.port, _USER, database, password)
        try:
            _create_database(address)
        except psycopg.Error as error:
            raise StartError(f"The PostgreSQL over {self.folder} cannot be used: {error}") from error
        return address

    def _is_whole(self) -> bool:
        return all((self.data / part).is_file() for part in ("PG_VERSION", "global/pg_control", "password"))

    def _check_fits(self) -> None:
        if not changes_user() and (owner := self.data.stat().st_uid) != os.geteuid():
            raise StartError(
                f"The data folder {self.data} belongs to another user (id {owner}): remove it or run as them."
            )
        made_by = (self.data / "PG_VERSION").read_text().strip()
        if made_by != (ours := major_version(postgres_binaries())):
            raise StartError(f"{self.data} was made by PostgreSQL {made_by}, this is {ours}: remove it, or set PG_BIN.")

    def _make(self, unfinished: Path) -> None:
        self._say("Creating the database's data folder (once, a few seconds) …")
        password = self.folder / "password.new"
        password.unlink(missing_ok=True)
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24) + "\n")
        if changes_user():
            for path in (self.folder, password):
                shutil.chown(path, "nobody", "nogroup")
        arguments = ("-U", _USER, "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--locale=C")
        made = self._run(postgres_binaries() / "initdb", "-D", unfinished, "-k", *arguments)
        if made.returncode != 0:
            complaint = (made.stderr.strip().splitlines() or ["it gave no reason"])[-1]
            hint = " The user nobody must be able to reach it, and PostgreSQL's programs." if changes_user() else ""
            raise StartError(f"The data folder {self.data} cannot be made: {complaint}.{hint}")
        password.rename(unfinished / "password")
        unfinished.rename(self.data)

    def _server_options(self) -> str:
        port = self._port or _free_port()
        # Without a unix socket there is no path that could be too long for one.
        settings = ("listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=", *self._options)
        return " ".join(f"-c {setting}" for setting in settings)

    def _server(self) -> "_Server | None":
        """Read what the server wrote about itself, which may be out of date."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            pid, port = int(lines[_PID_LINE]), int(lines[_PORT_LINE])
        except (OSError, IndexError, ValueError):
            return None
        is_ready = lines[_STATUS_LINE:] != [] and lines[_STATUS_LINE].strip() == "ready"
        is_postgres = "postgres" in _command_of(pid)
        is_ours = is_postgres and _works_in(pid, self.data)
        return _Server(pid, port, is_ready, is_ours, is_somebody_else=_is_alive(pid) and not is_postgres)

    def _pg_ctl(self, action: str, *arguments: str) -> bool:
        return self._run(postgres_binaries() / "pg_ctl", action, "-D", self.data, *arguments).returncode == 0

    def _run(self, program: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        # Files, not pipes: a server that inherited a pipe would keep it open. A session of its own, so that Ctrl-C
        # in the terminal reaches only the process that then stops the server in good order.
        with (self.folder / "command.log").open("w+") as output:
            done = subprocess.run(
                [*as_ordinary_user(), program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
                start_new_session=True,
                cwd=self.folder,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
                check=False,
            )
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, "", output.read())

    def _last_complaint(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        complaints = [line for line in lines if "FATAL:" in line or "could not" in line]
        return complaints[-1].rpartition("FATAL:")[2].strip() + "." if complaints else "it gave no reason."


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class _Server:
    """What a postmaster.pid says, and whether that process still is the server over its folder."""

    pid: int
    port: int
    is_ready: bool
    is_ours: bool
    is_somebody_else: bool


def _command_of(pid: int) -> str:
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    command = ["ps", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _works_in(pid: int, data: Path) -> bool:
    """Whether a process's current folder is this one, as a postmaster's is its data, however the path is spelled."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(data)
    except OSError:
        return str(data) in _command_of(pid)


def _locks_alone(file: IO[str]) -> bool:
    """Lock a file for this process alone; False where another holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _check_for_the_shell(*paths: Path) -> None:
    """Refuse paths of which pg_ctl's shell would make something else."""
    for path in paths:
        if odd := sorted(set(str(path)) & set('$`"\\\n')):
            raise StartError(f"PostgreSQL cannot be run from {path}: its path holds {' '.join(map(repr, odd))}.")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _create_database(address: PostgresAddress) -> None:
    """Make the database unless it is there; somebody else may be making it at the same time."""
    server = address.url.removesuffix(address.database) + "postgres"
    with psycopg.connect(server, autocommit=True, connect_timeout=10) as connection:
        known = "SELECT 1 FROM pg_database WHERE datname = %s"
        if connection.execute(known, (address.database,)).fetchone() is None:
            with suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(address.database)))
