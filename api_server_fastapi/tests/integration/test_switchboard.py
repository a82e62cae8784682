"""The lab's links, which behave as networks do on bad days, and the program that holds them."""

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest
from api_server.local.background import BackgroundProcess
from api_server.local.links import Link
from api_server.local.postgres import PostgresAddress
from api_server.local.replication import LabError
from api_server.local.switchboard import CONTROL, Switchboard

COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"
READY = b"Z\x00\x00\x00\x05I"

SILENCE_S = 0.1

Answer = Callable[[bytes], list[bytes]]


def echo(data: bytes) -> list[bytes]:
    return [data]


class Server:
    """A server that answers what it hears, and can end all its connections."""

    def __init__(self, answer: Answer) -> None:
        self.heard: list[bytes] = []
        self.serving: set[asyncio.Task[None]] = set()
        self._answer = answer
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        task.add_done_callback(self.serving.discard)
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                self.heard.append(data)
                for part in self._answer(data):
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.01)
        writer.close()

    def close_connections(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def linked(port: int, answer: Answer = echo) -> AsyncIterator[tuple[Link, Server]]:
    server = Server(answer)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listener:
        link = Link("clients-a", port, listener.sockets[0].getsockname()[1])
        await link.open()
        try:
            yield link, server
        finally:
            server.close_connections()
            link.close()
            await until(lambda: not link.connections and not server.serving)


class Client:
    """One that says something and hears what comes back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def hear(self, timeout_s: float = 5.0) -> bytes:
        return await asyncio.wait_for(self.reader.read(65536), timeout_s)

    async def hears_nothing(self) -> bool:
        try:
            await self.hear(SILENCE_S)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def client_of(link: Link) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


async def reset(waiting: Awaitable[bytes]) -> bool:
    with pytest.raises(ConnectionResetError):
        await waiting
    return True


async def test_a_link_passes_on_what_is_said_and_that_nothing_more_will_be(unused_tcp_port: int) -> None:
    async with linked(unused_tcp_port) as (link, server), client_of(link) as client:
        client.say(b"hello")
        assert await client.hear() == b"hello"
        server.close_connections()
        assert await client.hear() == b""


async def test_of_a_black_hole_nobody_hears_anything(unused_tcp_port: int) -> None:
    async with linked(unused_tcp_port) as (link, server), client_of(link) as client:
        client.say(b"before")
        assert await client.hear() == b"before"
        await link.set_mode("drop")
        client.say(b"lost")
        async with client_of(link) as newcomer:
            newcomer.say(b"lost too")
            assert await newcomer.hears_nothing()
            server.close_connections()
            assert await client.hears_nothing(), "not even that the server is gone"
            assert server.heard == [b"before"]


async def test_after_a_black_hole_connections_that_lost_something_are_reset(unused_tcp_port: int) -> None:
    """And the others go on."""
    async with linked(unused_tcp_port) as (link, server), client_of(link) as loser, client_of(link) as silent:
        for client in (loser, silent):
            client.say(b"before")
            assert await client.hear() == b"before"
        await link.set_mode("drop")
        loser.say(b"lost")
        async with client_of(link) as newcomer:
            await until(lambda: sum(connection.has_lost_bytes for connection in link.connections) == 2)
            await link.set_mode("pass")
            assert await reset(loser.hear())
            assert await reset(newcomer.hear())
        silent.say(b"after")
        assert await silent.hear() == b"after"
        assert server.heard == [b"before", b"before", b"after"]


async def test_a_link_that_resets_refuses_newcomers_until_it_passes_again(unused_tcp_port: int) -> None:
    async with linked(unused_tcp_port) as (link, _), client_of(link) as client:
        client.say(b"before")
        assert await client.hear() == b"before"
        await link.set_mode("reset")
        assert await reset(client.hear())
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", link.port)
        with pytest.raises(OSError, match="in use"), socket.socket() as other:
            other.bind(("127.0.0.1", link.port))
        await link.set_mode("pass")
        async with client_of(link) as newcomer:
            newcomer.say(b"after")
            assert await newcomer.hear() == b"after"


async def test_a_slow_link_takes_its_time_both_ways(unused_tcp_port: int) -> None:
    async with linked(unused_tcp_port) as (link, _), client_of(link) as client:
        client.say(b"fast")
        assert await client.hear() == b"fast"
        await link.set_mode("delay:100")
        begin = time.monotonic()
        client.say(b"slow")
        assert await client.hear() == b"slow"
        assert time.monotonic() - begin >= 0.2


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([COMMITTED + READY], id="in one piece"),
        pytest.param([COMMITTED[:5], COMMITTED[5:] + READY], id="in two pieces"),
    ],
)
async def test_the_answer_to_one_commit_can_be_swallowed(unused_tcp_port: int, parts: list[bytes]) -> None:
    """The server has heard the COMMIT, and the client does not hear of it; the next one is answered."""

    def answer(data: bytes) -> list[bytes]:
        return parts if data == b"COMMIT" else [b"C\x00\x00\x00\x0aBEGIN\x00"]

    async with linked(unused_tcp_port, answer) as (link, server):
        await link.set_mode("swallow-commit-reply")
        async with client_of(link) as client:
            client.say(b"BEGIN")
            assert await client.hear() == b"C\x00\x00\x00\x0aBEGIN\x00"
            client.say(b"COMMIT")
            assert await reset(client.hear())
        assert server.heard == [b"BEGIN", b"COMMIT"]
        assert link.mode == "pass"
        async with client_of(link) as client:
            client.say(b"COMMIT")
            assert await asyncio.wait_for(client.reader.readexactly(len(COMMITTED + READY)), 5) == COMMITTED + READY


async def test_what_only_begins_like_a_commit_s_answer_is_heard(unused_tcp_port: int) -> None:
    async with linked(unused_tcp_port) as (link, _), client_of(link) as client:
        await link.set_mode("swallow-commit-reply")
        client.say(COMMITTED[:5] + READY)
        assert await client.hear() == COMMITTED[:5] + READY


async def test_a_link_to_nobody_resets(unused_tcp_port_factory: Callable[[], int]) -> None:
    link = Link("clients-a", unused_tcp_port_factory(), unused_tcp_port_factory())
    await link.open()
    async with client_of(link) as client:
        assert await reset(client.hear())
    link.close()


@pytest.mark.parametrize("mode", ["slow", "delay", "delay:-1", "delay:1s", ""])
async def test_a_mode_that_is_none_is_refused(unused_tcp_port: int, mode: str) -> None:
    async with linked(unused_tcp_port) as (link, _):
        with pytest.raises(ValueError, match=r"There is no mode .* of a link, but pass, drop, reset, delay"):
            await link.set_mode(mode)
        assert link.mode == "pass"


@pytest.fixture
def switchboard(
    postgres: PostgresAddress, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> Iterator[tuple[Switchboard, int, int]]:
    """The program with a link and an agent of the same server, and the ports of these."""
    board = Switchboard(tmp_path)
    link, agent = unused_tcp_port_factory(), unused_tcp_port_factory()
    conninfo = {"host": "127.0.0.1", "user": postgres.user, "password": postgres.password, "dbname": "postgres"}
    board.configure({"clients-a": (link, postgres.port)}, {"a": (agent, postgres.port)}, conninfo)
    command: list[str | Path] = [sys.executable, "-m", "api_server.local.switchboard", tmp_path]
    process = BackgroundProcess.start(command, log=tmp_path / "switchboard.log")
    try:
        deadline = time.monotonic() + 20
        while not board.is_ready:
            assert process.is_alive, (tmp_path / "switchboard.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield board, link, agent
    finally:
        process.kill()
    assert not psutil.pid_exists(process.pid)


def told(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), 5) as connection, connection.makefile() as answer:
        return answer.readline().strip()


def test_the_switchboard_takes_orders(switchboard: tuple[Switchboard, int, int]) -> None:
    board, link, agent = switchboard
    assert board.links() == {"clients-a": "pass"}
    deadline = time.monotonic() + 5
    while told(agent) != "up ready":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for state, answer in {"drain": "up drain", "maint": "down maint", "ready": "up ready"}.items():
        board.set_proxy_state("a", state)
        assert told(agent) == answer
    board.set_link("clients-a", "reset")
    assert board.links() == {"clients-a": "reset"}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", link))
    with pytest.raises(LabError, match="There is no mode 'slow' of a link"):
        board.set_link("clients-a", "slow")
    with pytest.raises(LabError, match="The switchboard does not know 'clients-z'"):
        board.set_link("clients-z", "drop")
    with pytest.raises(LabError, match="The switchboard does not know 'z'"):
        board.set_proxy_state("z", "ready")


def test_the_switchboard_takes_no_orders_from_strangers(switchboard: tuple[Switchboard, int, int]) -> None:
    """Who knows the port, but may not read the file that holds the secret; nonsense does not end it either."""
    board, _, _ = switchboard
    control = board.folder / CONTROL
    assert control.stat().st_mode & 0o777 == 0o600
    port = json.loads(control.read_text())["port"]
    for line in (
        b'{"do": "links"}',
        b'{"do": "links", "secret": "guessed"}',
        b"[]",
        b"nonsense",
        b'{"secret": "\xc3\xa9"}',
    ):
        with socket.create_connection(("127.0.0.1", port), 5) as connection, connection.makefile() as answer:
            connection.sendall(line + b"\n")
            assert "links" not in json.loads(answer.readline())
    assert board.links() == {"clients-a": "pass"}


def test_a_switchboard_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"The switchboard over .* does not answer"):
        Switchboard(tmp_path).links()
