"""Services as processes of their own."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

_OWN_PREFIXES = ("API_SERVER_", "ENV_TYPE", "OTEL_", "PICCOLO_DB_", "SEQUENCER_", "UVICORN_")


def clean_environment(**values: str) -> dict[str, str]:
    """Return this process's environment without settings of services, and with `values`."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith(_OWN_PREFIXES)}
    return {**inherited, **values}


class ServiceProcess:
    """A service in a process group of its own, with what it writes in `output`."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], output: Path, cwd: Path) -> None:
        self._file = output.open("w+")
        self.output = output
        self.command = command
        self.process = subprocess.Popen(
            [str(part) for part in command],
            env=dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def log(self) -> str:
        """All that the service has written so far."""
        return self.output.read_text(errors="replace")

    def wait_until_it_answers(self, url: str, timeout: float = 30.0) -> httpx2.Response:
        """Wait for any answer under `url`, and return it."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return httpx2.get(url, timeout=5)
            except httpx2.TransportError:
                assert self.process.poll() is None, f"the service ended with {self.process.returncode}:\n{self.log}"
                assert time.monotonic() < deadline, f"no answer under {url} within {timeout} s:\n{self.log}"
                time.sleep(0.02)

    def wait_until_it_writes(self, text: str, timeout: float = 30.0) -> str:
        """Wait until the output holds `text`, and return the output."""
        deadline = time.monotonic() + timeout
        while text not in (log := self.log):
            assert self.process.poll() is None, f"the service ended with {self.process.returncode}:\n{log}"
            assert time.monotonic() < deadline, f"{text!r} was not written within {timeout} s:\n{log}"
            time.sleep(0.02)
        return log

    def send(self, signal_number: signal.Signals) -> None:
        """Send a signal to the service's main process."""
        self.process.send_signal(signal_number)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait until the service has ended, and return its exit status."""
        return self.process.wait(timeout)

    def stop(self) -> int:
        """End the service in good order; if that takes longer than it may, kill what is left of its group."""
        if self.process.poll() is None:
            self.send(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.wait()
        finally:
            self._file.close()


StartService = Callable[..., ServiceProcess]

# On a test: the services that it started by `start_service`.
STARTED = pytest.StashKey[list[ServiceProcess]]()


@pytest.fixture
def start_service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StartService]:
    """Give a function that starts a command as a service, with variables on top of a clean environment."""
    with ExitStack() as running:
        services: list[ServiceProcess] = []
        request.node.stash[STARTED] = services

        def start(command: Sequence[str | Path], cwd: Path = tmp_path, **environment: str) -> ServiceProcess:
            output = tmp_path / f"service-{len(services) + 1}.log"
            service = ServiceProcess(command, clean_environment(**environment), output, cwd)
            running.callback(service.stop)
            services.append(service)
            return service

        yield start
