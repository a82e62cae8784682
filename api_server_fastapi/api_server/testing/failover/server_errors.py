"""What the servers themselves logged as errors, by SQLSTATE: also what a service hid from its clients."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from api_server.local.lab import Lab

# What a lab has to be made with, so that its servers write the SQLSTATE of each error.
LOG_LINE_PREFIX = "log_line_prefix=%m [%p] %e "
READ_ONLY = "25006"

_LINE = re.compile(r"^(\S+ \S+) (?:UTC|GMT) \[\d+\] ([0-9A-Z]{5}) (?:ERROR|FATAL|PANIC): ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ServerError:
    """An error that a node logged; `at` is a moment of `time.monotonic`."""

    at: float
    node: str
    sqlstate: str


def server_errors(lab: Lab, since: float) -> list[ServerError]:
    """Return what the nodes of a lab logged since a moment of `time.monotonic`, in the order of time."""
    found = (error for node in lab.node_names for error in _logged(lab, node) if error.at >= since)
    return sorted(found, key=lambda error: error.at)


def _logged(lab: Lab, node: str) -> Iterator[ServerError]:
    since_boot = time.monotonic() - time.time()
    log = lab.folder / "nodes" / node / "server.log"
    for moment, sqlstate in _LINE.findall(log.read_text(errors="replace")):
        at = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
        yield ServerError(at + since_boot, node, sqlstate)
