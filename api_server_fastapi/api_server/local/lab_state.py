"""What a lab remembers in its folder, so that every process finds the same one."""

import json
import random
import socket
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from api_server.local.background import BackgroundProcess, writing_to
from api_server.local.replication import LabError, write_secret

ServerState = Literal["ready", "drain", "maint"]

_FILE = "state.json"
_NAMES = "abc"
_SIZES = (2, 3)

# Below those that systems give to outgoing connections, which might take one that is about to be listened on.
_FREE_PORTS = range(20_000, 32_000)

_PORTS_OF_NODES = {"clients": 5511, "replication": 5521, "node": 5531, "agent": 5541}
_PORTS_OF_PROXIES = {
    "haproxy-writer": 5500,
    "haproxy-readers": 5501,
    "haproxy-stats": 8404,
    "haproxy-runtime": 5509,
    "pgbouncer": 6432,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabOptions:
    """What a lab is made of: two or three nodes, and what stands before them.

    With `synchronous` each commit waits for one standby. With `free_ports` the lab takes ports that are free, else
    those that its documentation names. `postgres_options` are `name=value` settings of every node.
    """

    nodes: int = 2
    synchronous: bool = True
    haproxy: bool = False
    pgbouncer: bool = False
    free_ports: bool = False
    password: str = field(default="postgres", repr=False)
    database: str = "throttling_sequencer"
    postgres_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.nodes not in _SIZES:
            raise LabError(f"A lab has {' or '.join(map(str, _SIZES))} nodes, not {self.nodes}.")

    @property
    def node_names(self) -> tuple[str, ...]:
        return tuple(_NAMES[: self.nodes])


@dataclass(slots=True)
class LabState:
    """A lab as it is meant to be: `fenced` are old primaries, `waits_for` the standbys that commits may wait for."""

    options: LabOptions
    ports: dict[str, int]
    primary: str
    is_up: bool = False
    fenced: list[str] = field(default_factory=list)
    waits_for: list[str] = field(default_factory=list)
    follows: dict[str, str] = field(default_factory=dict)
    proxy_states: dict[str, ServerState] = field(default_factory=dict)
    processes: dict[str, BackgroundProcess] = field(default_factory=dict)
    # The command of the service, and what of its environment is its own.
    service: list[str] = field(default_factory=list)
    service_environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def new(cls, options: LabOptions) -> "LabState":
        """Return how a lab begins: the first node leads, the others follow. LabError where a port is taken."""
        primary, *standbys = options.node_names
        return cls(
            options,
            _ports(options),
            primary,
            follows=dict.fromkeys(standbys, primary),
            proxy_states=dict.fromkeys(options.node_names, "ready"),
        )

    @classmethod
    def load(cls, folder: Path) -> "LabState | None":
        """Return what a folder remembers, if it does."""
        file = folder / _FILE
        try:
            kept = json.loads(file.read_text())
            options = kept.pop("options")
            options["postgres_options"] = tuple(options["postgres_options"])
            processes = {name: BackgroundProcess(**process) for name, process in kept.pop("processes").items()}
            return cls(options=LabOptions(**options), processes=processes, **kept)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise LabError(f"{file} cannot be read: {error.strerror}.") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LabError(
                f"{file} is not what a lab of this version remembers: end what runs there by `lab down --folder "
                f"{folder}`, and remove the file."
            ) from error

    def save(self, folder: Path) -> None:
        """Remember it; the file holds the password, and is for its owner only."""
        write_secret(folder / _FILE, json.dumps(asdict(self), indent=1))

    @property
    def standbys(self) -> tuple[str, ...]:
        """The nodes that follow the primary, or may again without having to rejoin."""
        return tuple(name for name in self.options.node_names if name != self.primary and name not in self.fenced)


def left_by_lab(folder: Path) -> tuple[BackgroundProcess, ...]:
    """Return the processes that write the logs of a lab's parts: also of one that has lost its state, or its folder."""
    parts = [folder / "nodes" / name / "server.log" for name in _NAMES]
    parts += [folder / name / f"{name}.log" for name in ("haproxy", "pgbouncer")]
    return writing_to([*parts, folder / "switchboard.log", folder / "service.log"])


def _ports(options: LabOptions) -> dict[str, int]:
    """Choose a port for everything that listens."""
    ports = {
        f"{kind}-{name}": first + number
        for kind, first in _PORTS_OF_NODES.items()
        for number, name in enumerate(options.node_names)
    } | _PORTS_OF_PROXIES
    if options.free_ports:
        candidates = (port for port in random.sample(_FREE_PORTS, len(_FREE_PORTS)) if is_free(port))
        return {name: next(candidates) for name in ports}
    used = {*_PORTS_OF_NODES, *(["haproxy"] if options.haproxy else []), *(["pgbouncer"] if options.pgbouncer else [])}
    for name, port in ports.items():
        if name.partition("-")[0] in used and not is_free(port):
            raise LabError(f"Port {port}, which the lab needs for {name}, is taken: end what listens on it.")
    return ports


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
