"""`lab`: a database of several nodes on this machine, with what stands before it, to be broken on purpose."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from api_server.cli.administered_lab import AdministeredLab

app = typer.Typer(no_args_is_help=True, help="Run a database of several nodes here, and break it on purpose.")

_DEFAULT = Path(".data/lab")
_Folder = Annotated[Path, typer.Option(metavar="FOLDER", file_okay=False, help="Where the lab keeps all it has.")]
_Node = Annotated[str, typer.Argument(metavar="NODE", help="Its name: a, b or c.")]
_Part = Annotated[str, typer.Argument(metavar="PART", help="A node, or what stands beside it.")]
_Port = Annotated[int, typer.Option(min=1, max=65535, help="The port of the service.")]


@app.command()
def up(
    *,
    nodes: Annotated[int, typer.Option(min=2, max=3, help="How many nodes there are.")] = 2,
    asynchronous: Annotated[bool, typer.Option("--asynchronous", help="Acknowledge before a standby has it.")] = False,
    haproxy: Annotated[bool, typer.Option(help="Put HAProxy before the nodes.")] = True,
    pgbouncer: Annotated[
        bool, typer.Option("--pgbouncer", help="Put PgBouncer before HAProxy, or the writer.")
    ] = False,
    service: Annotated[bool, typer.Option(help="Serve the application of --app on top.")] = False,
    route: Annotated[
        str, typer.Option(metavar="ROUTE", help="How the service reaches the writer: direct, haproxy or pgbouncer.")
    ] = "direct",
    port: _Port = 8080,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Take any ports, not those that are told.")] = False,
    folder: _Folder = _DEFAULT,
) -> None:
    """Start the lab, tell where everything is, and leave it running."""
    if route not in ("direct", "haproxy", "pgbouncer"):
        raise typer.BadParameter("should be direct, haproxy or pgbouncer", param_hint="--route")
    if (route == "haproxy" and not haproxy) or (route == "pgbouncer" and not pgbouncer):
        raise typer.BadParameter(f"{route} needs --{route}", param_hint="--route")
    from api_server.cli.lab_start import LabStart, start_lab  # noqa: PLC0415 - help waits for no driver

    start = LabStart(nodes, not asynchronous, haproxy, pgbouncer, free_ports)
    raise typer.Exit(start_lab(folder, start, service_port=port if service else None, route=route))


@app.command()
def status(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    folder: _Folder = _DEFAULT,
) -> None:
    """Show how every node and everything before it is."""
    raise typer.Exit(_lab(folder).show_status(as_json=as_json))


@app.command()
def writer(folder: _Folder = _DEFAULT) -> None:
    """Print the name of the node that takes writes, asked by SQL; exit with 1 where there is none."""
    raise typer.Exit(_lab(folder).show_writer())


@app.command()
def flip(folder: _Folder = _DEFAULT) -> None:
    """Switch over in good order: drain and stop the primary, promote a standby, have the old primary rejoin."""
    raise typer.Exit(_lab(folder).flip())


@app.command()
def promote(
    node: Annotated[str | None, typer.Argument(metavar="[NODE]", help="By default: who has received most.")] = None,
    folder: _Folder = _DEFAULT,
) -> None:
    """Make a standby the primary at once; the old one is killed, and comes back by `rejoin` alone."""
    raise typer.Exit(_lab(folder).promote(node))


@app.command()
def kill(part: _Part, folder: _Folder = _DEFAULT) -> None:
    """Kill a node, as a power cut would, or what stands before the nodes."""
    raise typer.Exit(_lab(folder).kill(part))


@app.command()
def freeze(node: _Node, folder: _Folder = _DEFAULT) -> None:
    """Stop every process of a node where it stands; its connections stay open."""
    raise typer.Exit(_lab(folder).do("freeze", node))


@app.command()
def thaw(node: _Node, folder: _Folder = _DEFAULT) -> None:
    """Have a frozen node go on."""
    raise typer.Exit(_lab(folder).do("thaw", node))


@app.command()
def cut(
    link: Annotated[str, typer.Argument(metavar="LINK", help="clients-a, replication-a, and so on.")],
    folder: _Folder = _DEFAULT,
) -> None:
    """Make a link a black hole: what is sent vanishes, and connections stay."""
    raise typer.Exit(_lab(folder).cut(link))


@app.command()
def heal(
    link: Annotated[str | None, typer.Argument(metavar="[LINK]", help="By default: every link.")] = None,
    folder: _Folder = _DEFAULT,
) -> None:
    """Have a link pass again."""
    raise typer.Exit(_lab(folder).heal(link))


@app.command()
def rejoin(node: _Node, folder: _Folder = _DEFAULT) -> None:
    """Make a node a standby of the present primary: rewound, else copied anew."""
    raise typer.Exit(_lab(folder).do("rejoin", node))


@app.command()
def start(part: _Part, folder: _Folder = _DEFAULT) -> None:
    """Start a node again as what it was, or what stands beside it; an old primary may only rejoin."""
    raise typer.Exit(_lab(folder).start(part))


@app.command()
def stop(
    part: _Part,
    *,
    mode: Annotated[
        str, typer.Option(metavar="MODE", help="How a node stops: fast, smart (waits for clients) or immediate.")
    ] = "fast",
    folder: _Folder = _DEFAULT,
) -> None:
    """Shut a node, what stands before the nodes, or the service down in good order."""
    if mode not in ("fast", "smart", "immediate"):
        raise typer.BadParameter("should be fast, smart or immediate", param_hint="--mode")
    raise typer.Exit(_lab(folder).stop(part, mode))


@app.command()
def drain(node: _Node, folder: _Folder = _DEFAULT) -> None:
    """Have proxies send a node no new clients; those that are on it stay."""
    raise typer.Exit(_lab(folder).do("drain", node))


@app.command()
def ready(node: _Node, folder: _Folder = _DEFAULT) -> None:
    """Have proxies use a node again."""
    raise typer.Exit(_lab(folder).do("ready", node))


@app.command()
def maint(node: _Node, folder: _Folder = _DEFAULT) -> None:
    """Have proxies send a node nothing, and cut the clients that are on it."""
    raise typer.Exit(_lab(folder).do("maint", node))


@app.command()
def pooler(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="PAUSE, RESUME, RECONNECT, KILL and a name.")],
    folder: _Folder = _DEFAULT,
) -> None:
    """Give PgBouncer a command of its console."""
    raise typer.Exit(_lab(folder).pooler(" ".join(command)))


@app.command()
def down(folder: _Folder = _DEFAULT) -> None:
    """End every process of the lab, in whatever state it is; the folder stays."""
    from api_server.cli.administered_lab import end_lab  # noqa: PLC0415 - help waits for no driver

    raise typer.Exit(end_lab(folder))


def _lab(folder: Path) -> "AdministeredLab":
    from api_server.cli.administered_lab import administered_lab  # noqa: PLC0415 - help waits for no driver

    return administered_lab(folder)
