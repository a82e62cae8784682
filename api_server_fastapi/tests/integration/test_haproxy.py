"""HAProxy before the nodes: sessions go to the primary and nowhere else, and end where it is no longer."""

import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from api_server.exceptions import StartError
from api_server.local.haproxy import READERS, HAProxy, HAProxyPorts, ProxiedServer, haproxy_binary
from api_server.testing.clusters import MakeCluster
from stand_in_nodes import StandInNode, stand_in_node


@pytest.fixture
def nodes() -> Iterator[tuple[StandInNode, StandInNode]]:
    with stand_in_node("node-a", "up") as first, stand_in_node("node-b", "down") as second:
        yield first, second


@pytest.fixture
def haproxy(
    nodes: tuple[StandInNode, StandInNode], tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> Iterator[HAProxy]:
    ports = HAProxyPorts(*(unused_tcp_port_factory() for _ in range(4)))
    servers = [ProxiedServer(node.name, node.port, node.agent_port) for node in nodes]
    proxy = HAProxy(tmp_path / "a folder", ports, servers)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.kill()


def session(proxy: HAProxy, port: int | None = None) -> "closing[socket.socket]":
    return closing(socket.create_connection(("127.0.0.1", port or proxy.ports.writer), 2))


def ask(connection: socket.socket) -> str | None:
    """Return who answers, None where the session is cut."""
    connection.settimeout(2)
    try:
        connection.sendall(b"who are you?\n")
        return connection.recv(100).decode().strip() or None
    except (ConnectionResetError, BrokenPipeError):
        return None


def who_answers(proxy: HAProxy) -> str | None:
    with session(proxy) as connection:
        return ask(connection)


def wait_until(condition: Callable[[], bool], timeout: float = 5.0) -> float:
    """Wait, and return how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() < started + timeout, "in vain"
        time.sleep(0.005)
    return time.monotonic() - started


def wait_for_a_round(node: StandInNode) -> None:
    """Wait until agents have been asked twice more, and whoever was to be asked in between."""
    for _ in range(2):
        node.asked.clear()
        assert node.asked.wait(2)


class TestTheWriter:
    def test_the_first_session_after_the_start_goes_to_the_primary(
        self, haproxy: HAProxy, nodes: tuple[StandInNode, StandInNode]
    ) -> None:
        assert [who_answers(haproxy) for _ in range(5)] == ["node-a"] * 5
        assert {name: status.state for name, status in haproxy.states().items()} == {"node-a": "up", "node-b": "down"}

    def test_it_stays_there_while_the_node_answers(self, haproxy: HAProxy) -> None:
        # `UP` without a count: checks succeed, and none is on its way to be the last that may fail.
        wait_until(lambda: {status.check for status in haproxy.states().values()} == {"L7OK"})
        assert [status.status for status in haproxy.states().values()] == ["UP", "DOWN (agent)"]

    def test_a_promotion_is_followed_within_a_second(
        self, haproxy: HAProxy, nodes: tuple[StandInNode, StandInNode]
    ) -> None:
        first, second = nodes
        first.says, second.says = "down", "up"
        assert wait_until(lambda: who_answers(haproxy) == "node-b") < 1

    def test_sessions_with_who_is_no_primary_any_more_are_cut(
        self, haproxy: HAProxy, nodes: tuple[StandInNode, StandInNode]
    ) -> None:
        with session(haproxy) as connection:
            assert ask(connection) == "node-a"
            nodes[0].says = "down"
            connection.settimeout(2)
            # Nothing was asked: the end comes by itself.
            assert ended(connection)

    def test_a_primary_that_takes_connections_and_answers_none_is_left(
        self, haproxy: HAProxy, nodes: tuple[StandInNode, StandInNode]
    ) -> None:
        nodes[0].answers = False
        nodes[1].says = "up"
        wait_until(lambda: not haproxy.states()["node-a"].is_up)
        assert who_answers(haproxy) == "node-b"

    def test_without_any_primary_a_session_ends_and_does_not_hang(
        self, haproxy: HAProxy, nodes: tuple[StandInNode, StandInNode]
    ) -> None:
        nodes[0].says = "down"
        wait_until(lambda: not haproxy.states()["node-a"].is_up)
        started = time.monotonic()
        assert who_answers(haproxy) is None
        assert time.monotonic() < started + 1


class TestTheOperator:
    def test_drain_keeps_sessions_and_gives_no_new_ones(
        self, haproxy: HAProxy, nodes: tuple[StandInNode, StandInNode]
    ) -> None:
        nodes[1].says = "up"
        wait_until(lambda: haproxy.states()["node-b"].is_up)
        with session(haproxy) as kept:
            assert ask(kept) == "node-a"
            haproxy.set_state("node-a", "drain")
            assert haproxy.states()["node-a"].state == "drain"
            assert [who_answers(haproxy) for _ in range(3)] == ["node-b"] * 3
            assert ask(kept) == "node-a"
            assert haproxy.states()["node-a"].sessions == 1

    def test_maint_cuts_sessions(self, haproxy: HAProxy, nodes: tuple[StandInNode, StandInNode]) -> None:
        with session(haproxy) as connection:
            assert ask(connection) == "node-a"
            haproxy.set_state("node-a", "maint")
            assert ended(connection)
        assert who_answers(haproxy) is None

    def test_who_is_fenced_gets_no_session_however_loud_its_agent(
        self, haproxy: HAProxy, nodes: tuple[StandInNode, StandInNode]
    ) -> None:
        first, second = nodes
        haproxy.set_state("node-a", "maint")
        second.says = "up"
        wait_until(lambda: haproxy.states()["node-b"].is_up)
        first.says = "up ready"
        wait_for_a_round(second)
        assert [who_answers(haproxy) for _ in range(5)] == ["node-b"] * 5
        assert haproxy.states()["node-a"].state == "maint"

    def test_an_agent_that_says_ready_does_not_end_a_drain(
        self, haproxy: HAProxy, nodes: tuple[StandInNode, StandInNode]
    ) -> None:
        first, second = nodes
        first.says = second.says = "up ready"
        wait_until(lambda: haproxy.states()["node-b"].is_up)
        haproxy.set_state("node-a", "drain")
        wait_for_a_round(second)
        assert haproxy.states()["node-a"].state == "drain"

    def test_who_was_primary_when_it_was_fenced_is_asked_before_it_is_used_again(
        self, haproxy: HAProxy, nodes: tuple[StandInNode, StandInNode]
    ) -> None:
        haproxy.set_state("node-a", "maint")
        nodes[0].says, nodes[1].says = "down", "up"
        wait_until(lambda: haproxy.states()["node-b"].is_up)
        haproxy.set_state("node-a", "ready")
        assert [who_answers(haproxy) for _ in range(20)] == ["node-b"] * 20

    def test_ready_brings_a_node_back(self, haproxy: HAProxy, nodes: tuple[StandInNode, StandInNode]) -> None:
        haproxy.set_state("node-a", "maint")
        haproxy.set_state("node-a", "ready")
        wait_until(lambda: who_answers(haproxy) == "node-a", 1)

    def test_an_unknown_node_is_a_sentence(self, haproxy: HAProxy) -> None:
        with pytest.raises(StartError, match=r"HAProxy refuses 'disable agent writer/node-x': No such server\."):
            haproxy.set_state("node-x", "drain")


def test_readers_go_to_everybody_who_answers(haproxy: HAProxy, nodes: tuple[StandInNode, StandInNode]) -> None:
    def readers() -> set[str | None]:
        with session(haproxy, haproxy.ports.readers) as one, session(haproxy, haproxy.ports.readers) as other:
            return {ask(one), ask(other)}

    assert readers() == {"node-a", "node-b"}
    nodes[0].answers = False
    wait_until(lambda: not haproxy.states(READERS)["node-a"].is_up)
    assert readers() == {"node-b"}


def test_the_page_shows_every_node(haproxy: HAProxy) -> None:
    with session(haproxy, haproxy.ports.stats) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        connection.settimeout(2)
        page = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert page.startswith("HTTP/1.1 200 OK")
    assert page.count("node-a</a>") == page.count("node-b</a>") == 2


class TestTheProcess:
    def test_another_process_finds_and_stops_it(self, haproxy: HAProxy) -> None:
        same = HAProxy(haproxy.folder, haproxy.ports, haproxy.servers)
        assert same.is_running
        pid = same.pid
        same.start()
        assert (same.pid, pid) == (pid, haproxy.pid)
        same.stop()
        assert not haproxy.is_running
        with pytest.raises(StartError, match=f"runtime API on 127.0.0.1:{haproxy.ports.runtime} does not answer"):
            haproxy.states()

    def test_after_a_kill_it_starts_again_on_the_same_ports(
        self, haproxy: HAProxy, nodes: tuple[StandInNode, StandInNode]
    ) -> None:
        with session(haproxy) as connection:
            assert ask(connection) == "node-a"
            assert haproxy.pid is not None
            os.kill(haproxy.pid, signal.SIGKILL)
            assert ended(connection)
        wait_until(lambda: not haproxy.is_running)
        haproxy.start()
        assert who_answers(haproxy) == "node-a"

    def test_it_can_start_with_a_node_that_is_fenced(
        self, haproxy: HAProxy, nodes: tuple[StandInNode, StandInNode]
    ) -> None:
        haproxy.stop()
        nodes[0].says = nodes[1].says = "up ready"
        haproxy.start(fenced=["node-a"])
        wait_for_a_round(nodes[1])
        assert [who_answers(haproxy) for _ in range(5)] == ["node-b"] * 5
        assert haproxy.states(READERS)["node-a"].state == "maint"
        haproxy.set_state("node-a", "ready")
        wait_until(lambda: haproxy.states()["node-a"].is_up)

    def test_a_process_that_got_its_number_is_left_alone(self, haproxy: HAProxy) -> None:
        haproxy.kill()
        with subprocess.Popen(["sleep", "60"]) as other:
            (haproxy.folder / "haproxy.pid").write_text(f"{other.pid} 1\n")
            assert not haproxy.is_running
            haproxy.stop()
            assert other.poll() is None
            other.kill()

    def test_a_port_that_is_taken_is_a_sentence(
        self, haproxy: HAProxy, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
    ) -> None:
        ports = HAProxyPorts(haproxy.ports.writer, *(unused_tcp_port_factory() for _ in range(3)))
        second = HAProxy(tmp_path / "second", ports, haproxy.servers)
        try:
            with pytest.raises(StartError, match="HAProxy does not start: ") as refused:
                second.start()
        finally:
            second.kill()
        assert str(second.log) in str(refused.value)
        assert str(ports.writer) in second.log.read_text()
        assert not second.is_running


class TestTheProgram:
    def test_one_that_is_given_is_taken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = tmp_path / "haproxy"
        program.touch(mode=0o755)
        assert stat.S_IMODE(program.stat().st_mode) & stat.S_IXUSR
        with chosen(monkeypatch, HAPROXY_BIN=str(program)):
            assert haproxy_binary() == program

    def test_one_that_is_none_is_a_sentence(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with chosen(monkeypatch, HAPROXY_BIN=str(tmp_path)), pytest.raises(StartError, match="HAPROXY_BIN is"):
            haproxy_binary()

    def test_it_comes_with_what_setup_installs(self) -> None:
        answer = subprocess.run([haproxy_binary(), "-v"], capture_output=True, text=True, check=True)
        assert answer.stdout.startswith("HAProxy version 2.")


@contextmanager
def chosen(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        haproxy_binary.cache_clear()
        yield
    haproxy_binary.cache_clear()


def ended(connection: socket.socket) -> bool:
    """Whether a session is cut within two seconds, without being asked anything."""
    connection.settimeout(2)
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


@pytest.mark.slow
def test_a_write_goes_to_a_new_primary_within_a_second(cluster: MakeCluster) -> None:
    lab = cluster(haproxy=True)
    address = lab.addresses("haproxy")[0]

    def writes(number: int) -> bool:
        try:
            with psycopg.connect(address.url, autocommit=True, connect_timeout=2) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS kept (number int)")
                connection.execute("INSERT INTO kept VALUES (%s)", (number,))
        except psycopg.OperationalError:
            return False
        return True

    took = []
    for old in ("a", "b"):
        lab.kill(old)
        assert not writes(0)
        promotion = lab.promote()
        wait_until(lambda: writes(1))
        took.append(time.monotonic() - promotion.accepts_writes_at)
        lab.rejoin(old)
    # The machine may be busy with something else for one of them.
    assert min(took) < 1
