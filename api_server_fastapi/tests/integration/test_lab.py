"""The lab: nodes that are promoted, killed, frozen and cut off, and what was acknowledged stays."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from api_server.exceptions import StartError
from api_server.local.cluster import Cluster
from api_server.local.lab import Lab, LabError, LabOptions, ServerState
from api_server.local.lab_state import LabState
from api_server.local.replication import Node, wait_until
from api_server.testing import MakeCluster
from labs import processes_of, query, rows, write
from older_postgres import older_programs

slow = pytest.mark.slow

OTHER_PROCESS = """
import sys
from pathlib import Path
from api_server.local.lab import Lab, LabOptions
{}
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab of two nodes, for tests that leave it as they found it."""
    lab = Lab.create(tmp_path_factory.mktemp("kept"), LabOptions(free_ports=True))
    yield lab
    lab.down()


@pytest.fixture
def lab(kept: Lab) -> Lab:
    """That lab, up and whole."""
    if not is_whole(kept):
        kept.down()
        kept.up()
    query(kept.address("a"), "DROP TABLE IF EXISTS kept")
    return kept


def is_whole(lab: Lab) -> bool:
    if (state := LabState.load(lab.folder)) is None or not state.is_up:
        return False
    status = lab.status()
    return status.writer == "a" and status.is_synchronous and set(status.links.values()) == {"pass"}


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def start_process(code: str, folder: Path) -> "subprocess.Popen[str]":
    command: list[str | Path] = [sys.executable, "-c", OTHER_PROCESS.format(code), folder]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def said_by_another_process(code: str, folder: Path) -> str:
    with start_process(code, folder) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return said.strip()


def agent_says(lab: Lab, node: str) -> str:
    port = LabState.load(lab.folder).ports[f"agent-{node}"]  # type: ignore[union-attr] # the lab is up
    with socket.create_connection(("127.0.0.1", port), 5) as connection, connection.makefile() as answer:
        return answer.readline().strip()


def wait_for_agent(lab: Lab, node: str, answer: str, timeout_s: float = 5.0) -> float:
    """Wait until the agent of a node gives an answer, and return how long that took."""
    begin = time.monotonic()
    while (said := agent_says(lab, node)) != answer:
        assert time.monotonic() - begin < timeout_s, f"the agent of {node} said {said!r} for too long"
        time.sleep(0.01)
    return time.monotonic() - begin


def crash(lab: Lab, node: str) -> None:
    """Kill a node behind the lab's back: commits still wait for it, or for another one."""
    for process in processes_of(lab.folder / "nodes" / node):
        with suppress(psutil.NoSuchProcess):  # it ends by itself when it misses its parent
            process.kill()


def roles(lab: Lab) -> dict[str, str]:
    return {node.name: node.role for node in lab.status().nodes}


def test_what_was_acknowledged_outlives_the_primary(cluster: MakeCluster, tmp_path: Path) -> None:
    """And a new primary that is alone takes writes at once, with no standby to wait for."""
    lab = cluster()
    assert lab.status().is_synchronous
    write(lab, 1)

    before = time.monotonic()
    promotion = lab.promote()

    assert (promotion.node, promotion.timeline) == ("b", 2)
    assert before < promotion.accepts_writes_at <= time.monotonic()
    write(lab, 2)
    assert rows(lab, "b") == [1, 2]
    assert not lab.status().is_synchronous
    assert roles(lab) == {"a": "stopped", "b": "primary"}
    lab.down()
    assert processes_of(tmp_path) == []


def test_there_is_no_lab_to_open_where_none_runs(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"No lab runs in .*: start one by `api-server-cli lab up"):
        Lab.open(tmp_path)
    with pytest.raises(LabError, match=r"is not up|There is no lab"):
        Lab.create(tmp_path).promote()


def test_ending_what_never_was_is_no_error_and_makes_no_folder(tmp_path: Path) -> None:
    Lab.create(tmp_path / "lab").down()
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize("nodes", [1, 4])
def test_a_lab_has_two_or_three_nodes(nodes: int) -> None:
    with pytest.raises(LabError, match=f"A lab has 2 or 3 nodes, not {nodes}"):
        LabOptions(nodes=nodes)


def test_a_port_that_is_taken_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr("api_server.local.lab_state._PORTS_OF_NODES", {"clients": port})
        with pytest.raises(LabError, match=f"Port {port}, which the lab needs for clients-a, is taken"):
            Lab.create(tmp_path).up()
    assert processes_of(tmp_path) == []


def test_a_folder_that_is_no_labs_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "precious").touch()
    with pytest.raises(LabError, match=r"holds 'nodes', and is no lab's: name an empty one\."):
        Lab.create(tmp_path, LabOptions(free_ports=True)).up()
    assert [path.name for path in tmp_path.rglob("*")] == ["nodes", "precious"]


@pytest.mark.parametrize("text", ["", "garbage", "{}", "[]", '{"options": {"version": 9}}'])
def test_a_state_that_no_lab_wrote_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(text)
    lab = Lab.create(tmp_path, LabOptions(free_ports=True))
    for do in (lambda: Lab.open(tmp_path), lab.up, lab.down, lab.status):
        with pytest.raises(LabError, match=r"state\.json is not what a lab of this version remembers: end what runs"):
            do()
    assert (tmp_path / "state.json").read_text() == text


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match=r"file/lab cannot be one of a lab: Not a directory"):
        Lab.create(tmp_path / "file" / "lab", LabOptions(free_ports=True)).up()
    with pytest.raises(StartError, match="No lab runs in"):
        Lab.open(tmp_path / "file" / "lab")


@slow
def test_what_runs_under_a_state_that_is_lost_is_ended(cluster: MakeCluster) -> None:
    lab = cluster(haproxy=True)
    (lab.folder / "state.json").write_text("")
    with pytest.raises(LabError):
        lab.down()
    assert processes_of(lab.folder) == []
    (lab.folder / "state.json").unlink()


@slow
def test_a_lab_whose_folder_is_deleted_ends(cluster: MakeCluster) -> None:
    lab = cluster(haproxy=True)
    shutil.rmtree(lab.folder)
    wait_until(lambda: processes_of(lab.folder) == [], 15, "all of the lab is gone")


@slow
def test_what_is_left_of_a_lab_whose_folder_is_deleted_is_ended(cluster: MakeCluster) -> None:
    lab = cluster(haproxy=True)
    lab.kill_switchboard()
    shutil.rmtree(lab.folder)
    assert processes_of(lab.folder) != []
    lab.down()
    assert processes_of(lab.folder) == []


@slow
def test_a_promotion_needs_no_proxy_and_no_switchboard(cluster: MakeCluster) -> None:
    lab = cluster(haproxy=True)
    write(lab, 1)
    lab.kill_switchboard()
    with pytest.raises(LabError, match=r"The switchboard over .* does not answer"):
        lab.drain("a")
    assert (status := lab.status()).nodes[0].proxy_state == "ready"
    assert not status.is_switchboard_running
    assert lab.promote().node == "b"
    lab.start_switchboard()
    assert agent_says(lab, "a") == "down maint"
    lab.rejoin("a")
    assert LabState.load(lab.folder).fenced == []  # type: ignore[union-attr] # the lab is up
    write(lab, 2)
    wait_for_rows(lab, "a", [1, 2])


@slow
def test_a_promotion_that_cannot_be_leaves_the_old_primary_to_be_started(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object) -> None:
        raise LabError("it cannot be")

    write(lab, 1)
    monkeypatch.setattr(Cluster, "promote", cannot)
    for move in (lab.promote, lab.flip):
        with pytest.raises(LabError, match="it cannot be"):
            move()
        state = LabState.load(lab.folder)
        assert state is not None
        assert (state.primary, state.fenced, state.proxy_states["a"]) == ("a", [], "ready")
        if move == lab.promote:
            lab.start("a")
    assert lab.writer() == "a"
    write(lab, 2)
    wait_for_rows(lab, "b", [1, 2])


@slow
@pytest.mark.parametrize("way", ["promote", "start"])
def test_a_promotion_that_was_broken_off_is_finished(
    cluster: MakeCluster, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(node: Node) -> None:
        raise LabError(f"{node.name} is not promoted")

    lab = cluster()
    write(lab, 1)
    with monkeypatch.context() as patched:
        patched.setattr(Node, "promote", break_off)
        with pytest.raises(LabError, match="b is not promoted"):
            lab.promote()
    with pytest.raises(LabError, match="The promotion of node b is not finished: `promote` finishes it"):
        lab.rejoin("a")
    with pytest.raises(LabError, match="The promotion of node b is not finished: `promote` finishes it"):
        lab.flip()
    if way == "promote":
        assert lab.promote().node == "b"
    else:
        lab.kill("b")
        lab.start("b")
    assert lab.writer() == "b"
    lab.rejoin("a")
    write(lab, 2)
    wait_for_rows(lab, "a", [1, 2])


@slow
def test_status_tells_commits_that_stand_still_from_those_that_wait_for_nobody(cluster: MakeCluster) -> None:
    lab = cluster()

    def waits() -> tuple[bool, bool]:
        return (status := lab.status()).is_synchronous, status.is_stuck

    assert waits() == (True, False)
    lab.cut("replication-a")
    assert waits() == (False, True)
    lab.heal()
    wait_until(lambda: waits() == (True, False), 10, "the standby follows again")
    crash(lab, "b")
    assert waits() == (False, True)
    lab.kill("b")
    assert waits() == (False, False)


@slow
def test_a_second_lab_in_the_same_folder_is_refused(lab: Lab) -> None:
    with pytest.raises(LabError, match=r"A lab runs in .* already"):
        Lab.create(lab.folder, lab.options).up()
    assert lab.writer() == "a"


@slow
def test_an_old_primary_comes_back_as_a_standby_only(cluster: MakeCluster) -> None:
    lab = cluster()
    write(lab, 1)
    lab.promote()
    write(lab, 2)

    with pytest.raises(LabError, match="Node a is an old primary: started, it would be a second one"):
        lab.start("a")
    with pytest.raises(LabError, match="Node a is an old primary: it gets no clients"):
        lab.ready("a")
    assert [node.is_fenced for node in lab.status().nodes] == [True, False]

    lab.rejoin("a")
    assert roles(lab) == {"a": "standby", "b": "primary"}
    assert lab.status().is_synchronous
    write(lab, 3)
    assert lab.promote().node == "a"
    assert rows(lab, "a") == [1, 2, 3]


@slow
def test_what_only_an_old_primary_wrote_is_undone_when_it_rejoins(cluster: MakeCluster) -> None:
    """It wrote on as a second primary, which nobody's commit waited for."""
    lab = cluster(synchronous=False)
    write(lab, 1)
    lab.promote(fence=False)
    write(lab, 2, "a")
    write(lab, 3, "b")
    assert lab.writer() == "b"
    wait_for_agent(lab, "a", "down maint")
    wait_for_agent(lab, "b", "up ready")

    lab.rejoin("a")

    write(lab, 4)
    assert lab.promote().node == "a"
    assert rows(lab, "a") == [1, 3, 4]


@slow
def test_commits_of_a_second_primary_wait_for_a_standby_that_it_lost(
    cluster: MakeCluster, executor: ThreadPoolExecutor
) -> None:
    lab = cluster()
    write(lab, 1)
    lab.promote(fence=False)
    late = executor.submit(write, lab, 2, "a")
    with pytest.raises(TimeoutError):
        late.result(0.5)
    lab.rejoin("a")
    assert isinstance(late.exception(10), psycopg.OperationalError)
    assert rows(lab, "b") == [1]


@slow
def test_any_process_does_with_a_lab_what_the_one_that_started_it_does(tmp_path: Path) -> None:
    folder = tmp_path / "a folder of the lab's"
    up = "Lab.create(Path(sys.argv[1]), LabOptions(free_ports=True)).up()"
    lab = "lab = Lab.open(Path(sys.argv[1]))\n"
    try:
        said_by_another_process(up, folder)
        write(Lab.open(folder), 1)
        said_by_another_process(f"{lab}lab.kill('a')", folder)
        assert said_by_another_process(f"{lab}print(lab.promote().node)", folder) == "b"
        said_by_another_process(f"{lab}lab.rejoin('a')", folder)
        assert said_by_another_process(f"{lab}print(lab.flip().node)", folder) == "a"
        said_by_another_process(f"{lab}lab.freeze('b')", folder)
        said_by_another_process(f"{lab}lab.thaw('b')", folder)
        assert rows(Lab.open(folder), "a") == [1]
    finally:
        said_by_another_process("Lab.create(Path(sys.argv[1])).down()", folder)
    assert processes_of(folder) == []


@slow
def test_nothing_is_left_of_a_start_that_was_killed_half_way(tmp_path: Path) -> None:
    up = "Lab.create(Path(sys.argv[1]), LabOptions(free_ports=True)).up()"
    with start_process(up, tmp_path) as process:
        deadline = time.monotonic() + 20
        while not (tmp_path / "nodes" / "b" / "server.log").exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.kill()
    with pytest.raises(StartError):
        Lab.open(tmp_path)
    assert processes_of(tmp_path) != []
    Lab.create(tmp_path).down()
    assert processes_of(tmp_path) == []


@slow
def test_nothing_is_left_of_a_start_that_fails(tmp_path: Path) -> None:
    lab = Lab.create(tmp_path, LabOptions(free_ports=True, postgres_options=("no_such_setting=1",)))
    with pytest.raises(LabError, match=r'Node a does not start: .*unrecognized configuration parameter "no_such'):
        lab.up()
    assert processes_of(tmp_path) == []


@slow
def test_nothing_is_left_whatever_was_killed_before(cluster: MakeCluster, tmp_path: Path) -> None:
    """Of nodes only their main processes: what a frozen one started is then nobody's child, and does not notice."""
    lab = cluster()
    lab.freeze("b")
    state = LabState.load(lab.folder)
    assert state is not None
    for process in state.processes.values():
        process.send(signal.SIGKILL)
    assert processes_of(lab.folder / "nodes" / "b") != []
    lab.down()
    assert processes_of(tmp_path) == []
    lab.down()


@slow
def test_a_frozen_node_answers_nobody_and_goes_on_where_it_was(lab: Lab, executor: ThreadPoolExecutor) -> None:
    write(lab, 1)
    assert agent_says(lab, "a") == "up ready"
    assert agent_says(lab, "b") == "down ready"

    lab.freeze("a")
    assert wait_for_agent(lab, "a", "down ready") < 1.0
    late = executor.submit(write, lab, 2, "a")
    status = lab.status()
    assert (status.writer, status.nodes[0].role, status.nodes[0].is_frozen) == (None, "unreachable", True)
    stopped = [process for process in processes_of(lab.folder / "nodes" / "a") if process.status() == "stopped"]
    assert len(stopped) > 4
    with pytest.raises(TimeoutError):
        late.result(0.2)

    lab.thaw("a")
    late.result(10)
    wait_for_agent(lab, "a", "up ready")
    assert rows(lab, "a") == [1, 2]


@slow
def test_a_killed_node_leaves_no_process(lab: Lab) -> None:
    assert len(processes_of(lab.folder / "nodes" / "a")) > 4
    lab.kill("a")
    assert processes_of(lab.folder / "nodes" / "a") == []
    lab.start("a")
    assert lab.writer() == "a"
    assert lab.status().is_synchronous


@slow
def test_commits_wait_behind_a_link_that_is_cut_until_it_is_healed(lab: Lab, executor: ThreadPoolExecutor) -> None:
    write(lab, 1)
    lab.cut("replication-a")
    late = executor.submit(write, lab, 2)
    with pytest.raises(TimeoutError):
        late.result(0.5)
    assert lab.status().links["replication-a"] == "drop"
    lab.heal()
    late.result(10)
    assert set(lab.status().links.values()) == {"pass"}
    wait_for_rows(lab, "b", [1, 2])


@slow
def test_without_waiting_a_cut_link_costs_what_was_acknowledged(cluster: MakeCluster) -> None:
    lab = cluster(synchronous=False)
    write(lab, 1)
    wait_for_rows(lab, "b", [1])
    lab.cut("replication-a")
    write(lab, 2)
    lab.promote()
    lab.heal()
    assert rows(lab, "b") == [1]


def wait_for_rows(lab: Lab, node: str, expected: list[object]) -> None:
    """Wait until a standby shows what it has received."""
    deadline = time.monotonic() + 10
    while True:
        with suppress(psycopg.errors.UndefinedTable):
            if rows(lab, node) == expected:
                return
        assert time.monotonic() < deadline
        time.sleep(0.01)


@slow
def test_a_standby_that_is_gone_holds_up_no_commit_and_may_not_lead(lab: Lab) -> None:
    """It lacks what was acknowledged without it."""
    lab.kill("b")
    write(lab, 1)
    assert not lab.status().is_synchronous
    with pytest.raises(LabError, match="Node b does not answer: it cannot be promoted"):
        lab.promote("b")
    lab.kill("a")
    lab.start("b")
    with pytest.raises(LabError, match="Node b may lack acknowledged commits: start node a again instead"):
        lab.promote("b")
    with pytest.raises(LabError, match="Every standby may lack acknowledged commits"):
        lab.promote()
    lab.start("a")
    assert rows(lab, "a") == [1]


@slow
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_nodes_that_were_all_down_come_up_in_any_order(lab: Lab, order: str) -> None:
    write(lab, 1)
    lab.kill("a")
    lab.stop("b", "immediate")
    assert lab.writer() is None
    for node in order:
        lab.start(node)
    assert lab.writer() == "a"
    write(lab, 2)
    deadline = time.monotonic() + 10
    while not lab.status().is_synchronous:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    wait_for_rows(lab, "b", [1, 2])


@slow
def test_a_switch_in_good_order_leaves_the_cluster_whole(lab: Lab) -> None:
    write(lab, 1)
    assert lab.flip().node == "b"
    write(lab, 2)
    assert roles(lab) == {"a": "standby", "b": "primary"}
    assert lab.status().is_synchronous
    assert lab.flip().node == "a"
    assert rows(lab, "a") == [1, 2]
    assert len({node.timeline for node in lab.status().nodes}) == 1
    assert {node.proxy_state for node in lab.status().nodes} == {"ready"}


@slow
def test_of_three_nodes_one_that_is_behind_catches_up_before_it_leads(cluster: MakeCluster) -> None:
    lab = cluster(nodes=3)
    write(lab, 1)
    crash(lab, "b")
    write(lab, 2)
    lab.kill("a")
    lab.start("b")
    assert rows(lab, "b") == [1]

    promotion = lab.promote("b")

    assert promotion.node == "b"
    assert rows(lab, "b") == [1, 2]
    assert lab.status().is_synchronous, "the third node follows the new primary"
    write(lab, 3)
    lab.rejoin("a")
    assert roles(lab) == {"a": "standby", "b": "primary", "c": "standby"}
    assert json.loads(json.dumps(lab.status().to_json()))["writer"] == "b"


@slow
def test_of_three_nodes_the_one_that_has_most_leads(cluster: MakeCluster) -> None:
    lab = cluster(nodes=3)
    write(lab, 1)
    crash(lab, "b")
    write(lab, 2)
    lab.kill("a")
    lab.start("b")
    assert lab.promote().node == "c"
    assert rows(lab, "c") == [1, 2]


@slow
@pytest.mark.parametrize(("state", "session_survives"), [("drain", True), ("maint", False)])
def test_proxies_do_as_they_are_told(cluster: MakeCluster, state: ServerState, session_survives: bool) -> None:
    lab = cluster(haproxy=True)
    (proxy,) = lab.addresses("haproxy")
    with psycopg.connect(proxy.url, autocommit=True) as session:
        getattr(lab, state)("a")
        if session_survives:
            session.execute("SELECT 1")
        else:
            with pytest.raises(psycopg.OperationalError):
                session.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        query(proxy, "SELECT 1")
    # What is wanted outlives HAProxy.
    lab.kill_haproxy()
    lab.start_haproxy()
    with pytest.raises(psycopg.OperationalError):
        query(proxy, "SELECT 1")
    lab.ready("a")
    wait_for_answer(proxy.url)


def wait_for_answer(url: str) -> None:
    deadline = time.monotonic() + 5
    while True:
        try:
            with psycopg.connect(url, autocommit=True, connect_timeout=2) as session:
                session.execute("CREATE TABLE IF NOT EXISTS answered ()")
                return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@slow
def test_pgbouncer_alone_leads_to_each_new_primary(cluster: MakeCluster) -> None:
    lab = cluster(pgbouncer=True)
    (pooler,) = lab.addresses("pgbouncer")
    wait_for_answer(pooler.url)
    lab.promote()
    wait_for_answer(pooler.url)
    assert [row["database"] for row in lab.pgbouncer("SHOW POOLS")]


@slow
def test_a_service_ends_with_its_lab(cluster: MakeCluster) -> None:
    lab = cluster()
    with pytest.raises(LabError, match=r"This lab never had a service: `up --service` starts one\."):
        lab.start_service_again()
    program = "import os, time; print(os.environ['GREETING'], flush=True); time.sleep(600)"
    pid = lab.start_service([sys.executable, "-c", program], {**os.environ, "GREETING": "hello"})
    with pytest.raises(LabError, match=f"runs already, as process {pid}"):
        lab.start_service(["true"], os.environ)
    with pytest.raises(LabError, match=f"runs already, as process {pid}"):
        lab.start_service_again()
    assert lab.status().service_pid == pid
    lab.kill_service()
    assert not psutil.pid_exists(pid)
    (lab.folder / "service.log").unlink()
    pid = lab.start_service_again()
    deadline = time.monotonic() + 10
    while "hello" not in (lab.folder / "service.log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lab.down()
    assert not psutil.pid_exists(pid)


@slow
def test_an_older_postgres_does_it_as_well(cluster: MakeCluster) -> None:
    with older_programs():
        lab = cluster()
        write(lab, 1)
        lab.promote()
        write(lab, 2)
        lab.rejoin("a")
        assert lab.flip().node == "a"
        assert rows(lab, "a") == [1, 2]


@slow
def test_the_password_is_seen_in_no_argument_and_no_file_of_others(cluster: MakeCluster, tmp_path: Path) -> None:
    lab = cluster(password="s3cret:of'the\\lab")
    write(lab, 1)
    lab.promote()
    lab.rejoin("a")
    (shown,) = query(lab.address("a"), "SHOW primary_conninfo")
    assert "passfile" in str(shown)
    assert "s3cret" not in str(shown)
    assert all("s3cret" not in " ".join(process.cmdline()) for process in processes_of(tmp_path))
    readable = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert all(b"s3cret" not in path.read_bytes() for path in readable)


@slow
def test_a_signal_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    up = "Lab.create(Path(sys.argv[1]), LabOptions(free_ports=True)).up()"
    command: list[str | Path] = [sys.executable, "-c", OTHER_PROCESS.format(up), tmp_path]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while not (tmp_path / "nodes" / "a" / "server.log").exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert process.returncode != 0
    assert processes_of(tmp_path) == []
