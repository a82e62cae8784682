"""PgBouncer before a lab's database: few connections to the server for many clients, one transaction at a time."""

import os
import select
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import ConnStatus, ExecStatus, PGconn, abc

from api_server.exceptions import StartError
from api_server.local.binaries import as_ordinary_user, changes_user
from api_server.local.postgres import PostgresAddress
from api_server.local.recorded import RecordedProcess

_PROGRAM = "pgbouncer"
_CONSOLE = "pgbouncer"
_START_TIMEOUT_S = 10.0
_CONNECT_TIMEOUT_S = 2

# What clients may ask for at the start of a session that is not theirs alone, and do not need.
_IGNORED = ("extra_float_digits", "options", "search_path", "statement_timeout", "lock_timeout", "jit")

_CONFIGURATION = """\
[databases]
* = host={server.host} port={server.port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
admin_users = {server.user}
pool_mode = transaction
max_client_conn = 500
default_pool_size = 20
ignore_startup_parameters = {ignored}
; A server that is away is asked again soon, and a client told before its own deadline.
server_connect_timeout = 1
server_login_retry = 1
query_wait_timeout = 5
tcp_keepalive = 1
tcp_keepidle = 5
tcp_keepintvl = 1
tcp_keepcnt = 3
tcp_user_timeout = 3000
log_connections = 0
log_disconnections = 0
"""


class PgBouncer:
    """A PgBouncer that outlives this process; any process that names the same folder finds it again."""

    def __init__(self, folder: Path, port: int, server: PostgresAddress) -> None:
        self.folder = folder.resolve()
        self.port = port
        self.server = server
        self.log = self.folder / "pgbouncer.log"
        self._file = self.folder / "pgbouncer.ini"
        self._users = self.folder / "pgbouncer.users"
        self._process = RecordedProcess(self.folder / "pgbouncer.pid", self.log)

    @property
    def address(self) -> PostgresAddress:
        """How clients reach the database through it."""
        return replace(self.server, host="127.0.0.1", port=self.port)

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers; the server may be away. Raises StartError."""
        if self._process.is_alive:
            return
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._configure()
        self._process.start([*as_ordinary_user(), pgbouncer_binary(), self._file])
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if not self._process.is_alive or time.monotonic() > deadline:
                self._process.kill()
                raise StartError(f"PgBouncer does not start: {self._process.last_words()} See {self.log}.")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it, if it runs, without waiting for clients to leave."""
        # By SIGINT it would wait for transactions to end.
        self._process.stop(signal.SIGTERM)

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

    def lead_to(self, server: PostgresAddress) -> None:
        """Lead to another server from now on; connections to the old one end with their transaction."""
        self.server = server
        self._configure()
        if self.is_running:
            self.command("RELOAD")
            self.command("RECONNECT")

    def command(self, line: str, timeout_s: float = 30.0) -> Sequence[Mapping[str, str]]:
        """Give the admin console a command (PAUSE, RESUME, RECONNECT, KILL, SHOW …), and return the rows it answers.

        Raises StartError where PgBouncer does not answer, or refuses.
        """
        conninfo = make_conninfo(self.address.url, dbname=_CONSOLE, connect_timeout=_CONNECT_TIMEOUT_S)
        try:
            console = PGconn.connect(conninfo.encode())
            try:
                return _answer(console, line, timeout_s)
            finally:
                console.finish()
        except (psycopg.Error, TimeoutError) as error:
            complaint = " ".join(str(error).split())
            raise StartError(f"PgBouncer on 127.0.0.1:{self.port} does not do {line!r}: {complaint}.") from error

    def _answers(self) -> bool:
        try:
            settings = self.command("SHOW CONFIG")
        except StartError:
            return False
        # Another one, of the same password, may have the port.
        return any(row["key"] == "conffile" and row["value"] == str(self._file) for row in settings)

    def _configure(self) -> None:
        self._users.unlink(missing_ok=True)
        self._users.touch(mode=0o600)
        self._users.write_text(f"{_quoted(self.server.user)} {_quoted(self.server.password)}\n")
        self._file.write_text(
            _CONFIGURATION.format(server=self.server, port=self.port, users=self._users, ignored=",".join(_IGNORED))
        )
        if changes_user():
            for path in (self.folder, self._users):
                shutil.chown(path, "nobody", "nogroup")


@cache
def pgbouncer_binary() -> Path:
    """Return PgBouncer's program: `PGBOUNCER_BIN`, else the system's. Raises StartError where there is none."""
    if given := os.environ.get("PGBOUNCER_BIN"):
        if not os.access(given, os.X_OK) or Path(given).is_dir():
            raise StartError(f"PGBOUNCER_BIN is {given!r}, which is no program that can be run.")
        return Path(given)
    system = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    if found := shutil.which(_PROGRAM, path=system):
        return Path(found)
    raise StartError(
        "There is no PgBouncer to start: install it by `apt-get install pgbouncer`, or set PGBOUNCER_BIN to its "
        "program."
    )


def _answer(console: abc.PGconn, line: str, timeout_s: float) -> Sequence[Mapping[str, str]]:
    """Return the rows that the console answers; not by psycopg's own waiting, which has no end: PAUSE may have none."""
    if console.status != ConnStatus.OK:
        raise psycopg.OperationalError(console.get_error_message())
    console.send_query(line.encode())
    deadline = time.monotonic() + timeout_s
    while console.is_busy():
        if not select.select([console.socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError(f"no answer within {timeout_s:g} s")
        console.consume_input()
    result = console.get_result()
    if result is None or result.status == ExecStatus.FATAL_ERROR:
        raise psycopg.OperationalError(result.get_error_message() if result else console.get_error_message())
    names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
    return [
        {name: (result.get_value(row, column) or b"").decode() for column, name in enumerate(names)}
        for row in range(result.ntuples)
    ]


def _quoted(value: str) -> str:
    escaped = value.replace('"', '""')
    return f'"{escaped}"'
