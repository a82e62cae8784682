"""A process that is asked to leave says so at once, answers on, tells whoever it serves, and only then stops."""

import asyncio
import math
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from api_server import draining as draining_module
from api_server.draining import Draining
from api_server.middlewares import DrainingMiddleware


class Server:
    """Stands for what handled signals before."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.was_told = asyncio.Event()

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.happened.append(f"handled {number}")
        self.was_told.set()

    async def until_told(self) -> None:
        async with asyncio.timeout(5):
            await self.was_told.wait()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    before = {number: signal.signal(number, server.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    yield server
    for number, handler in before.items():
        signal.signal(number, handler)


def lasting(delay: float = 0.0) -> Draining:
    """Return one that ends nobody: the process is that of the tests."""
    return Draining(delay, within=math.inf)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_all_is_told_in_its_order(server: Server, number: signal.Signals) -> None:
    draining = lasting()
    draining.on_draining(lambda: server.happened.append("draining"))

    async def tell() -> None:
        assert draining.is_closing.is_set()
        await asyncio.sleep(0)
        server.happened.append("closing")

    draining.on_closing(tell)
    async with draining.leaving():
        signal.raise_signal(number)
        # At once, and nothing else yet.
        assert draining.is_draining
        assert not draining.is_closing.is_set()
        assert server.happened == ["draining"]
        await draining.wait_until_closing()
        await server.until_told()
    assert server.happened == ["draining", "closing", f"handled {number}"]


async def test_the_delay_comes_between(server: Server) -> None:
    draining = lasting(delay=0.1)
    loop = asyncio.get_running_loop()
    async with draining.leaving():
        began = loop.time()
        signal.raise_signal(signal.SIGTERM)
        await server.until_told()
        assert loop.time() - began >= 0.1


async def test_a_second_interrupt_ends_the_delay_and_a_third_goes_to_the_server(server: Server) -> None:
    async with lasting(delay=60).leaving():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        await server.until_told()
        signal.raise_signal(signal.SIGINT)
    assert server.happened == [f"handled {signal.SIGTERM}", f"handled {signal.SIGINT}"]


async def test_being_told_twice_at_a_time_ends_no_delay(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a service manager that tells every process, and by the supervisor that it told too."""
    draining = lasting(delay=60)
    async with draining.leaving():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not draining.is_closing.is_set()
        monkeypatch.setattr(draining_module, "_SAME_ASKING_S", 0.0)
        signal.raise_signal(signal.SIGTERM)
        await server.until_told()


async def test_an_interrupt_of_a_terminal_waits_for_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining_module, "_is_at_a_terminal", lambda: True)
    async with lasting(delay=60).leaving():
        signal.raise_signal(signal.SIGINT)
        await server.until_told()


async def test_whoever_fails_or_hangs_keeps_nobody(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(draining_module, "_TELLING_S", 0.05)
    draining = lasting()
    heard: list[str] = []

    def fail() -> None:
        raise LookupError("nobody there")

    async def fail_later() -> None:
        raise LookupError("nobody there any more")

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            heard.append("given up")
            raise

    async def tell() -> None:
        heard.append("told")

    draining.on_draining(fail)
    draining.on_draining(lambda: heard.append("draining"))
    for callback in (fail_later, hang, tell):
        draining.on_closing(callback)
    async with draining.leaving():
        signal.raise_signal(signal.SIGTERM)
        await server.until_told()
        await asyncio.sleep(0)
    assert heard == ["draining", "told", "given up"]
    assert "nobody there" in caplog.text
    assert "nobody there any more" in caplog.text
    assert "took longer than 0.05 s" in caplog.text


async def test_who_comes_late_is_told_at_once(server: Server) -> None:
    draining = lasting()
    told: list[str] = []
    async with draining.leaving():
        signal.raise_signal(signal.SIGTERM)
        draining.on_draining(lambda: told.append("late"))
        assert told == ["late"]
        await server.until_told()


async def test_what_was_set_before_is_set_again_and_what_was_set_meanwhile_stays(server: Server) -> None:
    def mine(number: int, frame: FrameType | None) -> None:
        raise AssertionError

    async with lasting().leaving():
        assert signal.getsignal(signal.SIGINT) != server.handle
        signal.signal(signal.SIGTERM, mine)
    assert signal.getsignal(signal.SIGINT) == server.handle
    assert signal.getsignal(signal.SIGTERM) is mine


async def test_a_context_that_ends_first_leaves_nothing_running(server: Server) -> None:
    """The guards of the tests look for tasks."""
    async with lasting(delay=60).leaving():
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
    assert server.happened == []


async def test_who_is_not_asked_to_leave_has_no_deadline() -> None:
    threads = threading.active_count()
    async with Draining(within=0.05).leaving():
        assert threading.active_count() == threads + 1
    assert threading.active_count() == threads
    await asyncio.sleep(0.06)


async def test_it_can_be_begun_without_a_signal(server: Server) -> None:
    draining = Draining(delay=60, within=0.01)
    closed: list[bool] = []

    async def close() -> None:
        closed.append(True)

    draining.on_closing(close)
    async with draining.leaving():
        draining.begin(at_once=True)
        draining.begin()
        assert draining.is_draining
        async with asyncio.timeout(5):
            await draining.wait_until_closing()
        await asyncio.sleep(0.02)
    assert (closed, server.happened) == ([True], [])


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Have asyncio handle an interrupt, as it does where nobody else has a handler for it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_is_still_one() -> None:
    told: list[int] = []

    async def work() -> None:
        draining = lasting()
        draining.on_draining(lambda: told.append(1))
        async with draining.leaving():
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(work())
    assert told == [1]


def test_outside_of_the_main_thread_nothing_is_changed() -> None:
    seen: list[object] = []

    async def look() -> None:
        threads = threading.active_count()
        async with Draining(within=0.01).leaving():
            seen.append(signal.getsignal(signal.SIGTERM))
            assert threading.active_count() == threads

    thread = threading.Thread(target=lambda: asyncio.run(look()))
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def test_it_needs_the_standard_library_only() -> None:
    program = (
        "import sys; before = set(sys.modules); import api_server.draining;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["api_server"]


class TestAnswers:
    """What the middleware adds to answers."""

    async def headers(self, is_draining: Callable[[], bool], kind: str = "http", version: str = "1.1") -> list[Any]:
        sent: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": f"{kind}.response.start", "status": 200, "headers": [(b"connection", b"keep-alive")]})

        async def receive() -> Any:
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        await DrainingMiddleware(app, is_draining)({"type": kind, "http_version": version}, receive, send)
        headers: list[Any] = sent[0]["headers"]
        return headers

    async def test_they_end_their_connections_while_the_process_drains(self) -> None:
        assert await self.headers(lambda: True) == [(b"connection", b"close")]

    async def test_they_do_not_before(self) -> None:
        assert await self.headers(lambda: False) == [(b"connection", b"keep-alive")]

    @pytest.mark.parametrize(("kind", "version"), [("websocket", "1.1"), ("http", "2")])
    async def test_sockets_and_http_2_have_other_ways(self, kind: str, version: str) -> None:
        assert await self.headers(lambda: True, kind, version) == [(b"connection", b"keep-alive")]
