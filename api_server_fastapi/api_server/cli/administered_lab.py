"""A lab that runs, and what `lab` does with it; each command returns its exit status."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import typer

from api_server.cli.output import tell
from api_server.exceptions import StartError
from api_server.local.lab import Lab, LabStatus, NodeStatus, Promotion, StopMode
from api_server.local.lab_state import left_by_lab
from api_server.processes import signals_deferred

_NodeAction = Literal["freeze", "thaw", "rejoin", "drain", "ready", "maint"]
_DONE: dict[_NodeAction, str] = {
    "freeze": "is frozen",
    "thaw": "goes on",
    "rejoin": "follows the writer again",
    "drain": "gets no new clients",
    "ready": "gets clients as they come",
    "maint": "gets nothing",
}


@contextmanager
def told() -> Iterator[None]:
    """Make what a lab cannot do say why, and exit with 1."""
    try:
        yield
    except StartError as error:
        tell(str(error))
        raise typer.Exit(1) from error
    except OSError as error:
        tell(f"The lab cannot do that: {error.filename or error}: {error.strerror}.")
        raise typer.Exit(1) from error


@told()
def administered_lab(folder: Path) -> "AdministeredLab":
    """Return the lab that runs in a folder; exits with 1 and a sentence where none does."""
    return AdministeredLab(Lab.open(folder))


@told()
def end_lab(folder: Path) -> int:
    """End whatever of a lab there is in a folder."""
    lab = Lab.create(folder)
    if not folder.is_dir() and not left_by_lab(lab.folder):
        typer.echo(f"There is no lab in {folder}.")
        return 0
    # Half an end would have to be looked for by hand.
    with signals_deferred():
        lab.down()
    typer.echo("The lab is down.")
    return 0


@dataclass(frozen=True, slots=True)
class AdministeredLab:
    """The commands on a lab that runs."""

    lab: Lab

    def do(self, action: _NodeAction, node: str) -> int:
        """Do something with a node."""
        self._check(node, self.lab.node_names)
        # Half a rejoin would leave a node that is none.
        with signals_deferred(), told():
            getattr(self.lab, action)(node)
        typer.echo(f"{node} {_DONE[action]}.")
        return 0

    def promote(self, node: str | None) -> int:
        """Promote a node, or who has received most."""
        if node is not None:
            self._check(node, self.lab.node_names)
        return self._moved(lambda: self.lab.promote(node))

    def flip(self) -> int:
        """Switch over in good order."""
        return self._moved(self.lab.flip)

    def kill(self, part: str) -> int:
        """Kill a node, or what stands before the nodes."""
        parts: dict[str, Callable[[], object]] = {
            "haproxy": self.lab.kill_haproxy,
            "pgbouncer": self.lab.kill_pgbouncer,
            "switchboard": self.lab.kill_switchboard,
            "service": self.lab.kill_service,
        }
        return self._on(part, parts, self.lab.kill, "is killed")

    def start(self, part: str) -> int:
        """Start a node again, or what stands before the nodes."""
        parts: dict[str, Callable[[], object]] = {
            "haproxy": self.lab.start_haproxy,
            "pgbouncer": self.lab.start_pgbouncer,
            "switchboard": self.lab.start_switchboard,
            "service": self.lab.start_service_again,
        }
        return self._on(part, parts, self.lab.start, "runs")

    def stop(self, part: str, mode: str) -> int:
        """Shut a node, what stands before the nodes, or the service down."""
        parts: dict[str, Callable[[], object]] = {
            "haproxy": self.lab.stop_haproxy,
            "pgbouncer": self.lab.stop_pgbouncer,
            "service": self.lab.stop_service,
        }
        return self._on(part, parts, lambda node: self.lab.stop(node, cast("StopMode", mode)), "is stopped")

    def cut(self, link: str) -> int:
        """Make a link a black hole."""
        self._check(link, self.lab.link_names)
        with told():
            self.lab.cut(link)
        typer.echo(f"{link} lets nothing through.")
        return 0

    def heal(self, link: str | None) -> int:
        """Have a link, or all, pass again."""
        if link is not None:
            self._check(link, self.lab.link_names)
        with told():
            self.lab.heal(link)
        typer.echo(f"{link or 'Every link'} passes.")
        return 0

    def pooler(self, command: str) -> int:
        """Give PgBouncer a command."""
        with told():
            rows = self.lab.pgbouncer(command)
        for row in rows:
            typer.echo("  ".join(f"{name}={value}" for name, value in row.items()))
        if not rows:
            typer.echo(f"PgBouncer did {command}.")
        return 0

    def show_writer(self) -> int:
        """Print the writer's name: 1 where there is none."""
        with told():
            name = self.lab.writer()
        if name is None:
            tell("No node takes writes.")
            return 1
        typer.echo(name)
        return 0

    def show_status(self, *, as_json: bool) -> int:
        """Print how everything is."""
        with told():
            status = self.lab.status()
        typer.echo(json.dumps(status.to_json(), indent=2) if as_json else "\n".join(status_lines(status)))
        return 0

    def _on(
        self, part: str, parts: dict[str, Callable[[], object]], on_node: Callable[[str], object], done: str
    ) -> int:
        self._check(part, (*self.lab.node_names, *parts))
        with told():
            if part in parts:
                parts[part]()
            else:
                on_node(part)
        typer.echo(f"{part} {done}.")
        return 0

    def _moved(self, move: Callable[[], Promotion]) -> int:
        # Half a promotion would have no writer.
        with signals_deferred(), told():
            promotion = move()
            typer.echo(f"{promotion.node} is the writer, on timeline {promotion.timeline}.")
        return 0

    def _check(self, name: str, known: tuple[str, ...]) -> None:
        if name not in known:
            raise typer.BadParameter(f"{name!r} should be one of {', '.join(known)}")


def status_lines(status: LabStatus) -> Iterator[str]:
    """Yield the lines of a report: a node, a link that does not pass, and a proxy each."""
    if status.is_stuck:
        waits = "waits for a standby that is not there: commits stand still"
    else:
        waits = "waits for a standby" if status.is_synchronous else "takes writes alone"
    yield f"writer     {status.writer}, which {waits}" if status.writer else "writer     none"
    for node in status.nodes:
        yield f"node {node.name}     {_described(node)}"
    yield from (f"link       {name}: {mode}" for name, mode in status.links.items() if mode != "pass")
    if not status.is_switchboard_running:
        yield "links      not one passes: the switchboard is not running"
    if status.haproxy is not None:
        nothing = "running, and does not answer" if status.is_haproxy_running else "not running"
        yield "haproxy    " + (", ".join(f"{name} {state}" for name, state in status.haproxy.items()) or nothing)
    if status.is_pgbouncer_running is not None:
        yield f"pgbouncer  {'running' if status.is_pgbouncer_running else 'not running'}"
    if status.service_pid is not None:
        yield f"service    process {status.service_pid}"


def _described(node: NodeStatus) -> str:
    words = [node.role if node.timeline is None else f"{node.role} on timeline {node.timeline}"]
    if node.lag_bytes is not None:
        words.append(f"{node.lag_bytes} bytes behind")
    words += [word for word, holds in (("frozen", node.is_frozen), ("fenced", node.is_fenced)) if holds]
    if node.proxy_state != "ready":
        words.append(f"in {node.proxy_state}")
    return ", ".join([*words, f"port {node.port}"])
