"""A program that is found again by a file, which tells its process and when that started."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from api_server.local.background import BackgroundProcess

_STOP_TIMEOUT_S = 5.0


class RecordedProcess:
    """What `file` says of a process, whose output is appended to `log`."""

    def __init__(self, file: Path, log: Path) -> None:
        self._file = file
        self._log = log

    def start(self, command: Sequence[str | Path]) -> None:
        """Start a program, which outlives this process."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        process = BackgroundProcess.start(command, log=self._log, environment=environment)
        self._file.write_text(f"{process.pid} {process.started}\n")

    @property
    def process(self) -> BackgroundProcess | None:
        """The process, None where it does not run."""
        try:
            pid, _, started = self._file.read_text().strip().partition(" ")
        except FileNotFoundError:
            return None
        process = BackgroundProcess(int(pid), started)
        return process if process.is_alive else None

    @property
    def is_alive(self) -> bool:
        return self.process is not None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end, and kill it if it does not."""
        if process := self.process:
            process.stop(_STOP_TIMEOUT_S, number)
        self._file.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        if process := self.process:
            process.kill()
        self._file.unlink(missing_ok=True)

    def last_words(self) -> str:
        """Return the last line of its output as a sentence."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        said = [line.strip() for line in lines if line.strip()]
        return f"{said[-1].rstrip('.')}." if said else "it gave no reason."
