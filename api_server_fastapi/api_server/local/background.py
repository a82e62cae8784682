"""Processes that outlive who started them, and are found again by number and start time."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_POLL_S = 0.01
# Fields of /proc/<pid>/stat, counted from what follows the name.
_STATE, _PARENT, _STARTED = 0, 1, 19
_DEAD = "ZX"


@dataclass(frozen=True, slots=True)
class BackgroundProcess:
    """A process known by its number and the moment of its start: another one that got the number later is not it."""

    pid: int
    started: str

    @classmethod
    def start(
        cls, command: Sequence[str | Path], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> "BackgroundProcess":
        """Start a command in a session of its own, with nothing to read, that appends what it writes to `log`."""
        program, *arguments = map(str, command)
        writes = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        # Spawned, not a `Popen`: that would complain about a process which outlives it.
        pid = os.posix_spawnp(
            program,
            [program, *arguments],
            dict(os.environ if environment is None else environment),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, writes, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGPIPE),
        )
        # A child that has ended keeps its number until it is asked for, so there is something to be found.
        return cls(pid, _start_of(pid) or "")

    @classmethod
    def of(cls, pid: int) -> "BackgroundProcess | None":
        """Return the process that has this number now, if one does."""
        started = _start_of(pid)
        return None if started is None else cls(pid, started)

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; one that has ended and was not asked for by its parent does not."""
        _reap(self.pid)
        return self.started != "" and _start_of(self.pid) == self.started

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped where it stands, and may go on."""
        return self.is_alive and _state_of(self.pid) == "T"

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it is alive."""
        if self.is_alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; False where it did not end in time."""
        deadline = time.monotonic() + timeout_s
        while self.is_alive:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def stop(self, timeout_s: float = 10.0, number: signal.Signals = signal.SIGTERM) -> None:
        """End it and what it started: in good order, and by force when that takes longer than it may."""
        if not self.is_alive:
            return
        family = self.family()
        self.send(number)
        if not self.wait(timeout_s):
            family = self.family()
        kill_all(family)

    def kill(self) -> None:
        """Kill it and what it started, and return when all are gone."""
        kill_all(self.family())

    def family(self) -> tuple["BackgroundProcess", ...]:
        """Return it, if it is alive, and all that it and its children started."""
        if not self.is_alive:
            return ()
        children = _children()
        found, unseen = [self], [self.pid]
        while unseen:
            for pid in children.get(unseen.pop(), ()):
                if (child := BackgroundProcess.of(pid)) is not None:
                    found.append(child)
                    unseen.append(pid)
        return tuple(found)


def kill_all(processes: Sequence[BackgroundProcess], timeout_s: float = 10.0) -> None:
    """Kill processes, parents before their children, and return when all are gone."""
    for process in processes:
        process.send(signal.SIGKILL)
    for process in processes:
        if not process.wait(timeout_s):
            raise TimeoutError(f"process {process.pid} did not end within {timeout_s} s of being killed")


def working_in(folder: Path) -> tuple[BackgroundProcess, ...]:
    """Return the processes whose current folder is this one, whoever their parent is; the oldest first."""
    found = []
    for entry in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "cwd").readlink() == folder and (process := BackgroundProcess.of(int(entry.name))) is not None:
                found.append(process)
    return tuple(sorted(found, key=lambda process: (len(process.started), process.started, process.pid)))


def writing_to(files: Sequence[Path]) -> tuple[BackgroundProcess, ...]:
    """Return the processes whose output goes to one of these files, though it may have been deleted."""
    targets = {f"{file}{gone}" for file in files for gone in ("", " (deleted)")}
    found = []
    for entry in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            if str((entry / "fd" / "1").readlink()) in targets and (process := BackgroundProcess.of(int(entry.name))):
                found.append(process)
    return tuple(found)


def _reap(pid: int) -> None:
    """Let go of a child that has ended; others' children are none of ours."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _start_of(pid: int) -> str | None:
    """Return when a process that has not ended was started, in whatever unit the system counts."""
    if _PROC.joinpath("self").exists():
        fields = _stat_of(pid)
        return None if fields is None or fields[_STATE] in _DEAD else fields[_STARTED]
    told = _ps("-o", "stat=,lstart=", "-p", str(pid)).split(maxsplit=1)
    return None if not told or told[0][0] in _DEAD else told[1].strip()


def _state_of(pid: int) -> str:
    if _PROC.joinpath("self").exists():
        fields = _stat_of(pid)
        return fields[_STATE] if fields else ""
    return _ps("-o", "stat=", "-p", str(pid))[:1]


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    if _PROC.joinpath("self").exists():
        for entry in _PROC.glob("[0-9]*"):
            if (fields := _stat_of(int(entry.name))) is not None:
                children.setdefault(int(fields[_PARENT]), []).append(int(entry.name))
    else:
        for line in _ps("-axo", "pid=,ppid=").splitlines():
            pid, parent = map(int, line.split())
            children.setdefault(parent, []).append(pid)
    return children


def _stat_of(pid: int) -> list[str] | None:
    try:
        # The name, in parentheses, may itself hold spaces and parentheses.
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False).stdout  # noqa: S607
