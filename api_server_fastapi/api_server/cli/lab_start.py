"""How a lab comes up with a service on top, and how nothing stays behind where it does not."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, cast

import typer

from api_server.cli.administered_lab import told
from api_server.exceptions import StartError
from api_server.local.lab import Lab, LabError, LabOptions, Route
from api_server.local.lab_state import is_free
from api_server.processes import signals_deferred

if TYPE_CHECKING:
    from api_server.application import Application

_SERVICE_TIMEOUT_S = 60.0
_ADMIN = "from api_server.cli.app import main; main()"
_SERVER = "from api_server.main import main; main()"


@dataclass(frozen=True, slots=True)
class LabStart:
    """What is asked for."""

    nodes: int
    is_synchronous: bool
    has_haproxy: bool
    has_pgbouncer: bool
    has_free_ports: bool


def start_lab(folder: Path, start: LabStart, *, service_port: int | None, route: str) -> int:
    """Bring a lab up, and a service on it where it has a port; a start that fails or is broken off leaves nothing."""
    # Before anything runs: settings that are wrong are told in a moment.
    application = _application() if service_port is not None else None
    with told():
        lab = Lab.create(
            folder,
            LabOptions(
                nodes=start.nodes,
                synchronous=start.is_synchronous,
                haproxy=start.has_haproxy,
                pgbouncer=start.has_pgbouncer,
                free_ports=start.has_free_ports,
            ),
        )
        if service_port is not None:
            _refuse_a_port_that_is_taken(folder, service_port)
        with _signals_unwind():
            lab.up()
            if application is not None and service_port is not None:
                with _ended_if_that_fails(lab):
                    _serve(lab, application, service_port, cast("Route", route))
    typer.echo("\n".join(_where_all_is(lab, service_port)))
    return 0


@contextmanager
def _signals_unwind() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end this process by an exception, as Ctrl-C does, so that what was begun is undone."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - the signature of a handler
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _refuse_a_port_that_is_taken(folder: Path, port: int) -> None:
    """Raise LabError before anything runs; of a lab that runs already, `up` says that."""
    with suppress(StartError):
        Lab.open(folder)
        return
    if not is_free(port):
        raise LabError(f"Port {port}, which the service needs, is taken: end what listens on it, or name another one.")


@contextmanager
def _ended_if_that_fails(lab: Lab) -> Iterator[None]:
    try:
        yield
    except BaseException:  # Ctrl-C too: a lab without the service that was asked for is not what was asked for
        with signals_deferred():
            lab.down()
        raise


def _application() -> "Application":
    from api_server.cli.checked_application import checked_application  # noqa: PLC0415 - a lab alone waits for none

    return checked_application()


def _serve(lab: Lab, application: "Application", port: int, route: Route) -> None:
    """Migrate the database, start the service, and return when it answers."""
    environment = {
        **os.environ,
        **application.lab_environment(lab.addresses(route), route == "pgbouncer"),
        "API_SERVER_DATABASE_URL": direct_url(lab),
        "UVICORN_HOST": "127.0.0.1",
        "UVICORN_PORT": str(port),
    }
    _migrate(environment)
    pid = lab.start_service([sys.executable, "-c", _SERVER], environment)
    deadline = time.monotonic() + _SERVICE_TIMEOUT_S
    has_answered = False
    # Its process is looked for after the answer too, which may have been another one's.
    while not has_answered:
        has_answered = _answers(f"http://127.0.0.1:{port}/livez")
        if not _runs(lab, pid) or time.monotonic() > deadline:
            log = lab.folder / "service.log"
            raise LabError(f"The service does not start: {_last_line(log)} The whole story is in {log}.")
        time.sleep(0.0 if has_answered else 0.05)


def _migrate(environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ADMIN, "db", "upgrade", "--yes"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LabError(f"The database cannot be migrated:\n{done.stdout}{done.stderr}".rstrip())


def direct_url(lab: Lab) -> str:
    """Return the URL that leads to whichever node takes writes, past all proxies."""
    addresses = lab.addresses("direct")
    hosts = ",".join(f"{address.host}:{address.port}" for address in addresses)
    login = f"{addresses[0].user}:{addresses[0].password}"
    return f"postgresql://{login}@{hosts}/{addresses[0].database}?target_session_attrs=read-write"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - the address of what was just started
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _runs(lab: Lab, pid: int) -> bool:
    return lab.status().service_pid == pid


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it gave no reason.")


def _where_all_is(lab: Lab, service_port: int | None) -> Iterator[str]:
    """Yield where a client finds what; by which password, the guide tells."""
    direct = lab.addresses("direct")
    nodes = ",".join(f"{address.host}:{address.port}" for address in direct)
    login, tail = f"postgresql://{direct[0].user}@", f"/{direct[0].database}"
    yield f"The lab is up in {lab.folder}: {lab.writer()} takes writes."
    yield f"direct     {login}{nodes}{tail}?target_session_attrs=read-write"
    routes: Mapping[Route, bool] = {"haproxy": lab.options.haproxy, "pgbouncer": lab.options.pgbouncer}
    for route, is_there in routes.items():
        if is_there:
            address = lab.addresses(route)[0]
            yield f"{route:<10} {login}{address.host}:{address.port}{tail}"
    if lab.stats_url is not None:
        readers = lab.readers()
        yield f"readers    {login}{readers.host}:{readers.port}{tail}"
        yield f"page       {lab.stats_url}"
    if service_port is not None:
        yield f"service    http://127.0.0.1:{service_port}/"
