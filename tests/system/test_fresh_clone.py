"""What a newcomer does: clone, one command to serve, on a machine that has nothing but Python, make, git and curl."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from api_server.testing import StartService, clean_environment
from sequencer_process import ROOT

pytestmark = pytest.mark.slow

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Newcomer:
    """Whoever clones: their empty home, and what stands before a command so that they run it."""

    home: Path
    prefix: tuple[str, ...]

    def environment(self, **values: str) -> dict[str, str]:
        """Settings of the machine stay (certificates, package index); those of the person do not."""
        own = {"HOME": str(self.home), "PATH": SYSTEM_PATH, "PYTHON": "python3", **values}
        kept = {
            name: value for name, value in clean_environment().items() if not name.startswith(("VIRTUAL", "PYTHON"))
        }
        return kept | own

    def run(self, *command: str | Path, cwd: Path, **values: str) -> str:
        done = subprocess.run(
            [*self.prefix, *command],
            cwd=cwd,
            env=self.environment(**values),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(params=["myself", "an ordinary user"])
def newcomer(request: pytest.FixtureRequest) -> Iterator[Newcomer]:
    """Whoever runs the tests, and, where that is root, an ordinary user too; both in a path with a space."""
    prefix: tuple[str, ...] = ()
    folder = Path(tempfile.mkdtemp(prefix="a new user "))
    if request.param == "an ordinary user" and os.geteuid() == 0:
        prefix = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
        shutil.chown(folder, "nobody", "nogroup")
    try:
        yield Newcomer(folder, prefix)
    finally:
        shutil.rmtree(folder)


def test_a_clone_serves_plans_after_one_command(
    newcomer: Newcomer, start_service: StartService, unused_tcp_port_factory: Callable[[], int]
) -> None:
    clone = newcomer.home / "the clone"
    # By whoever may read the repository, for whoever shall own the clone.
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    if newcomer.prefix:
        subprocess.run(["chown", "-R", "nobody:nogroup", clone], check=True)
    port = str(unused_tcp_port_factory())
    environment = newcomer.environment(UVICORN_PORT=port)
    service = start_service([*newcomer.prefix, "make", "run"], cwd=clone, **environment)
    output = service.wait_until_it_writes("curl -s", timeout=600)
    assert "Installing what requirements/dev.lock lists" in output
    assert "Creating the database's data folder" in output
    (line,) = [line for line in output.splitlines() if line.strip().startswith("curl")]
    assert len(json.loads(newcomer.run("sh", "-c", line, cwd=newcomer.home))) == 100
    assert '"state":"operational"' in newcomer.run("curl", "-s", f"http://127.0.0.1:{port}/readyz", cwd=newcomer.home)
    table = newcomer.run(
        clone / ".venv/bin/throttling-sequencer", "plan", clone / "testing_payloads/game_state.json", cwd=newcomer.home
    )
    assert "score 13.3" in table
    service.send(signal.SIGTERM)
    service.wait()
    assert "Finished server process" in service.log
    assert newcomer.run("git", "status", "--porcelain", cwd=clone) == ""
