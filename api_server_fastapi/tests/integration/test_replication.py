"""Nodes that replicate each other: how they come back, and processes that are known by their start."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from api_server.local.background import BackgroundProcess, kill_all, working_in
from api_server.local.cluster import Cluster
from api_server.local.lab import Lab, LabError
from api_server.local.lab_state import LabState
from api_server.local.replication import Node, position, wait_until
from api_server.testing import MakeCluster
from labs import rows, write

FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def family(tmp_path: Path) -> Iterator[tuple[BackgroundProcess, int]]:
    """A process, and the number of the child that it started."""
    log = tmp_path / "family.log"
    process = BackgroundProcess.start([sys.executable, "-c", FAMILY], log=log)
    try:
        wait_until(lambda: log.read_text().endswith("\n"), 10, "the child is there")
        yield process, int(log.read_text())
    finally:
        kill_all(process.family())


def nodes_of(lab: Lab) -> dict[str, Node]:
    state = LabState.load(lab.folder)
    assert state is not None
    return {node.name: node for node in Cluster(lab.folder, state).nodes}


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_process_ends_with_what_it_started(family: tuple[BackgroundProcess, int], end: str) -> None:
    process, child = family
    assert process.is_alive
    assert [member.pid for member in process.family()] == [process.pid, child]
    getattr(process, end)()
    assert not process.is_alive
    assert not is_running(child)


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_process_that_hears_no_signal_is_ended_by_force(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    log = tmp_path / "deaf.log"
    process = BackgroundProcess.start([sys.executable, "-c", deaf], log=log)
    wait_until(lambda: log.read_text() != "", 10, "it is deaf")
    process.stop(timeout_s=0.2)
    assert not process.is_alive


def test_another_process_of_the_same_number_is_left_alone(family: tuple[BackgroundProcess, int]) -> None:
    process, _ = family
    earlier = BackgroundProcess(process.pid, "1")
    assert not earlier.is_alive
    earlier.kill()
    earlier.stop()
    assert process.is_alive


def test_a_process_outlives_who_started_it_and_is_found_again(tmp_path: Path) -> None:
    starter = """
import sys
from pathlib import Path
from api_server.local.background import BackgroundProcess
process = BackgroundProcess.start(["sleep", "600"], log=Path(sys.argv[1]))
print(process.pid, process.started)
"""
    command: list[str | Path] = [sys.executable, "-c", starter, tmp_path / "log"]
    pid, started = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()
    process = BackgroundProcess(int(pid), started)
    assert process.is_alive
    assert process == BackgroundProcess.of(int(pid))
    assert os.getsid(int(pid)) == int(pid), "Ctrl-C in a terminal does not reach it"
    process.kill()
    assert not process.is_alive


def test_processes_are_found_by_the_folder_that_they_work_in(tmp_path: Path) -> None:
    assert working_in(tmp_path) == ()
    with subprocess.Popen(["sleep", "600"], cwd=tmp_path) as process:
        (found,) = working_in(tmp_path)
        assert found.pid == process.pid
        found.send(signal.SIGSTOP)
        wait_until(lambda: found.is_stopped, 5, "it is stopped")
        found.kill()
    assert working_in(tmp_path) == ()


@pytest.mark.parametrize(("lsn", "number"), [("0/0", 0), ("0/1AF1220", 0x1AF1220), ("2/A", 0x20000000A)])
def test_positions_in_the_wal_are_numbers(lsn: str, number: int) -> None:
    assert position(lsn) == number


def test_waiting_in_vain_is_an_error_in_a_sentence() -> None:
    begin = time.monotonic()
    with pytest.raises(LabError, match=r"^Waited 0.05 s in vain until pigs fly\.$"):
        wait_until(lambda: False, 0.05, "pigs fly")
    assert time.monotonic() - begin < 5


@pytest.mark.slow
def test_an_old_primary_is_rewound_and_not_copied(cluster: MakeCluster) -> None:
    """Its data folder is the same; one that cannot be rewound is copied anew."""
    lab = cluster()
    write(lab, 1)
    lab.promote()
    before = (lab.folder / "nodes" / "a" / "data").stat().st_ino
    lab.rejoin("a")
    assert (lab.folder / "nodes" / "a" / "data").stat().st_ino == before

    lab.promote()
    (lab.folder / "nodes" / "b" / "data" / "global" / "pg_control").write_bytes(b"broken")
    lab.rejoin("b")
    write(lab, 2)
    assert lab.promote().node == "b"
    assert rows(lab, "b") == [1, 2]


@pytest.mark.slow
def test_what_a_killed_server_left_does_not_keep_it_from_starting(cluster: MakeCluster) -> None:
    """Its number belongs to another process by now, which PostgreSQL takes for a server that runs."""
    lab = cluster()
    lab.kill("a")
    file = lab.folder / "nodes" / "a" / "data" / "postmaster.pid"
    lines = file.read_text().splitlines()
    with subprocess.Popen(["sleep", "600"]) as other:
        file.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        try:
            lab.start("a")
        finally:
            other.kill()
    assert lab.writer() == "a"


@pytest.mark.slow
def test_data_that_processes_still_work_in_is_not_started_again(cluster: MakeCluster) -> None:
    """Those of a server that was killed alone, as long as they have not noticed."""
    lab = cluster()
    node = nodes_of(lab)["a"]
    assert node.process is not None
    node.freeze()
    node.process.send(signal.SIGKILL)
    assert node.process.wait(5)
    with pytest.raises(LabError, match="Node a is running"):
        lab.start("a")
    lab.kill("a")
    assert working_in(node.data) == ()
    lab.start("a")
    assert lab.writer() == "a"
