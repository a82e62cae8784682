"""HAProxy before two services, by the configuration that the repository ships."""

import csv
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from api_server.local.haproxy import haproxy_binary
from sequencer_process import ROOT

CONFIGURATION = ROOT / "deploy" / "haproxy" / "http.cfg"


@dataclass(frozen=True)
class HTTPProxy:
    """A HAProxy that runs, and what it knows of the services behind it."""

    url: str
    stats: str

    def states(self) -> dict[str, str]:
        """Return how it sees each service."""
        lines = httpx2.get(f"{self.stats}/;csv", timeout=5).text.removeprefix("# ").splitlines()
        rows = csv.DictReader(lines)
        return {row["svname"]: row["status"] for row in rows if row["pxname"] == "service" and len(row["svname"]) == 1}

    def wait_until_all_are_up(self, timeout: float = 30.0) -> None:
        """Wait until both services get requests."""
        deadline = time.monotonic() + timeout
        while (states := self.states()) != {"a": "UP", "b": "UP"}:
            assert time.monotonic() < deadline, states
            time.sleep(0.05)


@contextmanager
def http_proxy(folder: Path, *, port: int, stats: int, services: tuple[int, int]) -> Iterator[HTTPProxy]:
    """Run it until the context ends."""
    first, second = services
    addresses = {"BIND": port, "STATS": stats, "SERVER_A": first, "SERVER_B": second}
    environment = {**os.environ, **{f"HTTP_{name}": f"127.0.0.1:{number}" for name, number in addresses.items()}}
    log = folder / "haproxy.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [haproxy_binary(), "-db", "-f", CONFIGURATION], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        proxy = HTTPProxy(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{stats}")
        deadline = time.monotonic() + 10
        while True:
            assert process.poll() is None, log.read_text()
            try:
                proxy.states()
                break
            except httpx2.TransportError:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
        yield proxy
    finally:
        process.kill()
        process.wait()
