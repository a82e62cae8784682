"""The script that moves the writer to and fro: on a real lab, and on containers that a stub stands for."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from api_server.local.lab import Lab
from api_server.testing import clean_environment
from api_server.testing.clusters import MakeCluster
from sequencer_process import ROOT

SCRIPT = ROOT / "testing_payloads" / "multi_db_flip.sh"
CLI = Path(sys.executable).with_name("api-server-cli")

# Two nodes of which the stub knows who runs, who is the primary, and who is named by the fence.
STUB = """
import json, sys
from pathlib import Path

file = Path(sys.argv[1])
state = json.loads(file.read_text())
assert sys.argv[2:4] == ["compose", "--file"], sys.argv
state["calls"].append(sys.argv[5:])
words = sys.argv[5:]


def done(output="", status=0):
    file.write_text(json.dumps(state))
    if output:
        print(output)
    sys.exit(status)


def asked(node, query):
    if node not in state["running"]:
        done(status=1)
    if query == "SELECT NOT pg_is_in_recovery()":
        done("t" if state["primary"] == node else "f")
    if query.startswith("SELECT count(*) FROM pg_stat_replication"):
        done(str(len([other for other in state["running"] if other != node and other in query])))
    if query.startswith("SELECT pg_promote"):
        assert state["fence"] == node, "the node was promoted before it was named"
        assert state["primary"] not in state["running"] or state["primary"] != state["fence"], "there would be two"
        state["primary"] = node
        done("t")
    if query == "SELECT pg_is_in_recovery()":
        done("f" if state["primary"] == node else "t")
    if query.startswith("ALTER SYSTEM SET synchronous_standby_names") or query == "SELECT pg_reload_conf()":
        done()
    raise SystemExit(f"what is {query!r}?")


match words:
    case ["kill", node] if node in state["running"]:
        state["running"].remove(node)
        done()
    case ["up", "--detach", "--no-deps", "--no-recreate", node]:
        if state["breaks"] == f"up {node}":
            done("no space left", 1)
        if node not in state["running"]:
            state["running"].append(node)
        if state["fence"] == node:
            state["primary"] = node
        done()
    case ["exec", "-T", "haproxy", "bash", "-c", _, "bash", command]:
        _, _, server, _, wanted = command.split()
        state["haproxy"][server] = wanted
        done()
    case ["exec", "-T", node, "cat", "/fence/writer"]:
        done(state["fence"])
    case ["exec", "-T", node, "sh", "-c", command]:
        if state["breaks"] == "fence":
            state["fence"] = command.split()[1]
            state["breaks"] = ""
            done("the connection is gone", 1)
        state["fence"] = command.split()[1]
        done()
    case ["exec", "-T", "--env", _, "--env", _, node, "psql", *_, query]:
        asked(node, query)
raise SystemExit(f"what is {words}?")
"""


def flip(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments],
        env=clean_environment(API_SERVER_CLI=str(CLI), **environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )


@dataclass(frozen=True)
class Containers:
    """The stub `docker` on the PATH, and what it remembers."""

    folder: Path

    @property
    def state(self) -> dict[str, object]:
        state: dict[str, object] = json.loads((self.folder / "state.json").read_text())
        return state

    def set(self, **changes: object) -> None:
        (self.folder / "state.json").write_text(json.dumps(self.state | changes))

    @property
    def path(self) -> str:
        return f"{self.folder}:{os.environ['PATH']}"

    def flip(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return flip("--target", "compose", *arguments, PATH=self.path)


@pytest.fixture
def containers(tmp_path: Path) -> Containers:
    (tmp_path / "stub.py").write_text(STUB)
    stub = tmp_path / "docker"
    stub.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{tmp_path}/stub.py" "{tmp_path}/state.json" "$@"\n')
    stub.chmod(0o755)
    state = {"running": ["db1", "db2"], "primary": "db1", "fence": "db1", "haproxy": {}, "breaks": "", "calls": []}
    (tmp_path / "state.json").write_text(json.dumps(state))
    return Containers(tmp_path)


STEPS = """\
{a} takes writes
drain {a}
promote {b}
  {b} takes writes
bring {a} back as a standby
  {a} follows {b}
ready {a}
drain {b}
promote {a}
  {a} takes writes
bring {b} back as a standby
  {b} follows {a}
ready {b}
kill {a}
kill {b}
  nobody takes writes
start {early}
start {late}
  {a} takes writes
  {b} follows {a}
done: {a} takes writes, {b} follows
"""


class TestTheCall:
    def test_help_tells_every_option(self) -> None:
        done = flip("--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Usage: multi_db_flip.sh ")
        options = set(re.findall(r"(--[a-z]+)\b(?= \||\))", SCRIPT.read_text()))
        assert options >= {"--help", "--target", "--cycle", "--timeout"}
        assert {option for option in options if option not in done.stdout} == set()

    @pytest.mark.parametrize(
        "wrong",
        [
            ["--nonsense"],
            ["a"],
            ["--cycle"],
            ["--cycle", "0"],
            ["--cycle", "-1"],
            ["--cycle", "9999999999999999999"],
            ["--timeout", "x"],
            ["--target", "cloud"],
            ["--order", "third"],
            ["--target", "compose", "--file", "/not/here.yml"],
        ],
    )
    def test_a_wrong_one_is_an_error_of_its_own(self, wrong: list[str], containers: Containers) -> None:
        done = flip(*wrong, PATH=containers.path)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(r"multi_db_flip\.sh: .*\n", done.stderr)
        assert containers.state["calls"] == []

    def test_a_lab_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        done = flip("--folder", tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"No lab runs in {tmp_path}: start one by `api-server-cli lab up --folder {tmp_path}`.\n"

    def test_a_program_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [SCRIPT, "--folder", tmp_path],
            env=clean_environment(API_SERVER_CLI="/not/here"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("multi_db_flip.sh: there is no /not/here here: ")


class TestContainers:
    def test_the_writer_goes_there_and_back_and_both_fall_and_rise(self, containers: Containers) -> None:
        done = containers.flip()
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == STEPS.format(a="db1", b="db2", early="db2", late="db1")
        state = containers.state
        assert sorted(state["running"]) == ["db1", "db2"]  # type: ignore[call-overload] # a list
        assert (state["primary"], state["fence"]) == ("db1", "db1")
        assert state["haproxy"] == {"writer/db1": "ready", "readers/db1": "ready"} | {
            "writer/db2": "ready",
            "readers/db2": "ready",
        }

    @pytest.mark.slow
    def test_again_it_starts_them_in_the_other_order(self, containers: Containers) -> None:
        done = containers.flip("--cycle", "2")
        starts = [line for line in done.stdout.splitlines() if line.startswith(("cycle", "start"))]
        assert starts == ["cycle 1", "start db2", "start db1", "cycle 2", "start db1", "start db2"]

    @pytest.mark.slow
    def test_it_begins_with_whoever_takes_writes_and_starts_them_in_the_order_that_is_asked_for(
        self, containers: Containers
    ) -> None:
        containers.set(primary="db2", fence="db2")
        done = containers.flip("--order", "first")
        assert done.stdout == STEPS.format(a="db2", b="db1", early="db2", late="db1")

    def test_a_step_that_fails_is_told_with_its_reason(self, containers: Containers) -> None:
        containers.set(breaks="up db1")
        done = containers.flip()
        assert done.returncode == 1
        assert done.stdout.endswith("bring db1 back as a standby\n")
        assert "failed: no space left\n" in done.stderr

    def test_nothing_is_handed_over_to_who_lacks_what_was_acknowledged(self, containers: Containers) -> None:
        containers.set(running=["db1"])
        done = containers.flip()
        assert (done.returncode, done.stdout) == (1, "db1 takes writes\n")
        assert "db2 does not follow db1, and may lack what was acknowledged\n" in done.stderr
        assert containers.state["haproxy"] == {"writer/db1": "ready", "readers/db1": "ready"} | {
            "writer/db2": "ready",
            "readers/db2": "ready",
        }
        assert not any(call[0] == "kill" for call in containers.state["calls"])  # type: ignore[attr-defined] # a list

    def test_who_was_named_and_not_promoted_is_promoted_in_the_end(self, containers: Containers) -> None:
        containers.set(breaks="fence")
        done = containers.flip()
        assert done.returncode == 1
        assert "failed: the connection is gone\n" in done.stderr
        assert (containers.state["fence"], containers.state["primary"]) == ("db2", "db2")
        assert sorted(containers.state["running"]) == ["db1", "db2"]  # type: ignore[call-overload] # a list

    def test_a_node_that_cannot_be_started_again_is_told(self, containers: Containers) -> None:
        containers.set(breaks="up db1")
        done = containers.flip()
        assert "multi_db_flip.sh: start db1 failed: no space left\n" in done.stderr

    @pytest.mark.slow
    def test_a_state_that_does_not_come_about_is_told_and_the_nodes_are_started_again(
        self, containers: Containers
    ) -> None:
        stub = containers.folder / "stub.py"
        stub.write_text(stub.read_text().replace("done(str(len(", "done(str((state['primary'] == 'db1') * len("))
        done = containers.flip("--timeout", "1")
        assert done.returncode == 1
        assert "in 1 s it did not come about that db1 follows db2\n" in done.stderr
        assert sorted(containers.state["running"]) == ["db1", "db2"]  # type: ignore[call-overload] # a list
        assert set(containers.state["haproxy"].values()) == {"ready"}  # type: ignore[attr-defined] # a dict

    @pytest.mark.slow
    def test_a_signal_leaves_the_nodes_running(self, containers: Containers) -> None:
        stub = containers.folder / "stub.py"
        stub.write_text(stub.read_text().replace("done(str(len(", "done(str((state['primary'] == 'db1') * len("))
        process = subprocess.Popen(
            [SCRIPT, "--target", "compose"],
            env=clean_environment(PATH=containers.path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        with process:
            while process.stdout.readline() != "bring db1 back as a standby\n":
                assert process.poll() is None
            os.killpg(process.pid, signal.SIGTERM)
            assert process.wait(20) == 143
        assert sorted(containers.state["running"]) == ["db1", "db2"]  # type: ignore[call-overload] # a list

    def test_without_docker_it_says_so(self, tmp_path: Path) -> None:
        for program in ("dirname", "sh"):
            (tmp_path / program).symlink_to(f"/bin/{program}" if program == "sh" else "/usr/bin/dirname")
        done = flip("--target", "compose", PATH=str(tmp_path))
        assert (done.returncode, done.stderr) == (1, "multi_db_flip.sh: there is no docker here\n")


@pytest.fixture
def lab(cluster: MakeCluster) -> Lab:
    return cluster(haproxy=True)


@pytest.mark.slow
def test_on_a_lab_the_writer_goes_there_and_back_and_nothing_is_lost(lab: Lab) -> None:
    def write(number: int) -> None:
        """Write through HAProxy, as soon as it lets one."""
        deadline = time.monotonic() + 10
        while True:
            try:
                with psycopg.connect(lab.addresses("haproxy")[0].url, autocommit=True, connect_timeout=2) as session:
                    session.execute("CREATE TABLE IF NOT EXISTS kept (number int)")
                    session.execute("INSERT INTO kept VALUES (%s)", (number,))
                    return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline

    write(1)
    done = flip("--folder", lab.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == STEPS.format(a="a", b="b", early="b", late="a")
    write(2)
    status = lab.status()
    assert (status.writer, status.is_synchronous) == ("a", True)
    assert {node.proxy_state for node in status.nodes} == {"ready"}
    for name in lab.node_names:
        with psycopg.connect(lab.address(name).url) as session:
            assert session.execute("SELECT array_agg(number ORDER BY number) FROM kept").fetchone() == ([1, 2],)
