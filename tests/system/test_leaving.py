"""How processes leave: a plain app by the guide's own lines, and the product with one worker and several."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil
import pytest
from api_server.draining import STUCK
from api_server.testing import ServiceProcess, StartService, clean_environment
from pages import blocks
from sequencer_process import ROOT

API_SERVER = Path(sys.executable).with_name("api-server")

# What a test needs besides what the guide shows.
ROUTES = """
import asyncio, os, sys, threading, time

@app.get("/slow")
async def slow(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"

@app.get("/block")
async def block() -> None:
    print("blocking", flush=True)
    time.sleep(60)

@app.get("/thread")
async def thread() -> None:
    threading.Thread(target=sleep_in_a_thread).start()

def sleep_in_a_thread() -> None:
    time.sleep(60)
"""

APPLICATION = f"""
from api_server.application import Application
from fastapi import APIRouter

app = APIRouter()
{ROUTES}
@app.get("/pid")
async def pid() -> int:
    return os.getpid()

async def lifespan(app, registry):
    if os.path.exists(os.environ.get("TEST_NO_START", "")):
        raise RuntimeError("no start")
    yield
    if "hang" in os.environ.get("TEST_END", ""):
        await hang_for_ever()

async def hang_for_ever() -> None:
    await asyncio.sleep(60)

APP = Application(name="leaving", version="1", routers=lambda: (app,), lifespan=lifespan)
"""


class Leaving:
    """A service that runs, and how to speak to it."""

    def __init__(self, service: ServiceProcess, port: int) -> None:
        self.service = service
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._threads = ThreadPoolExecutor(20)

    def get(self, path: str) -> httpx2.Response:
        """Ask on a connection of its own."""
        return httpx2.get(self.url + path, timeout=20)

    def begin(self, path: str) -> "Future[httpx2.Response]":
        """Ask, and let the answer come; return when the request is under way."""
        with httpx2.Client() as probe:
            probe.get(f"{self.url}/readyz")
        answer = self._threads.submit(self.get, path)
        time.sleep(0.1)
        return answer

    def until_started(self, times: int) -> None:
        """Wait until so many processes have started."""
        deadline = time.monotonic() + 60
        while self.service.log.count("Application startup complete") < times:
            assert time.monotonic() < deadline, self.service.log
            time.sleep(0.02)

    def until_it_refuses(self) -> float:
        """Ask until nobody listens any more; every answer until then is one. Return how long that took."""
        began = time.monotonic()
        while True:
            try:
                assert self.get("/readyz").status_code == 503
            except httpx2.ConnectError:
                return time.monotonic() - began
            assert time.monotonic() - began < 20
            time.sleep(0.01)


StartLeaving = Callable[..., Leaving]


@pytest.fixture
def start_plain(
    start_service: StartService, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> StartLeaving:
    """Give a function that starts the guide's app under a plain uvicorn."""
    page = ROOT / "docs" / "guides" / "leaving.md"
    (shown, *_) = [block.text for block in blocks(page) if "FastAPI(" in block.text]

    def start(delay: float = 0.0, within: float = 15.0) -> Leaving:
        port = unused_tcp_port_factory()
        made = shown.replace("Draining(delay=3, within=15)", f"Draining(delay={delay}, within={within})")
        assert made != shown
        (tmp_path / "plain.py").write_text(made + ROUTES)
        command = [sys.executable, "-m", "uvicorn", "plain:app", "--port", str(port)]
        service = start_service([*command, "--timeout-graceful-shutdown", "10"])
        service.wait_until_it_answers(f"http://127.0.0.1:{port}/readyz")
        return Leaving(service, port)

    return start


@pytest.fixture
def start_product(
    start_service: StartService, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> StartLeaving:
    """Give a function that starts an application by `api-server`."""
    (tmp_path / "leaving_app.py").write_text(APPLICATION)

    def start(**environment: str) -> Leaving:
        port = unused_tcp_port_factory()
        variables = {"API_SERVER_APP": "leaving_app:APP", "PYTHONPATH": str(tmp_path), "UVICORN_PORT": str(port)}
        service = start_service([API_SERVER], **variables, **environment)
        leaving = Leaving(service, port)
        service.wait_until_it_answers(f"{leaving.url}/livez")
        leaving.until_started(int(environment.get("UVICORN_WORKERS", "1")))
        return leaving

    return start


class TestAPlainApp:
    """What the guide shows, under `uvicorn module:app`."""

    def test_it_answers_on_and_ends_what_it_began(self, start_plain: StartLeaving) -> None:
        app = start_plain(delay=0.4)
        with httpx2.Client(base_url=app.url) as kept:
            before = kept.get("/readyz")
            assert (before.status_code, before.headers.get("Connection")) == (200, None)
            slow = app.begin("/slow?seconds=0.8")
            app.service.send(signal.SIGTERM)
            time.sleep(0.05)
            on_a_kept_connection = kept.get("/readyz")
        on_a_new_one = app.get("/readyz")
        for answer in (on_a_kept_connection, on_a_new_one):
            assert (answer.status_code, answer.headers["Connection"]) == (503, "close")
        app.until_it_refuses()
        assert not slow.done()
        assert (slow.result().text, slow.result().headers["Connection"]) == ('"done"', "close")
        # uvicorn raises the signal again when all is done.
        assert app.service.wait() == -signal.SIGTERM
        assert "Application shutdown complete" in app.service.log

    def test_a_blocked_event_loop_is_ended_and_named(self, start_plain: StartLeaving) -> None:
        app = start_plain(within=0.6)
        app.begin("/block")
        app.service.wait_until_it_writes("blocking")
        began = time.monotonic()
        app.service.send(signal.SIGTERM)
        assert app.service.wait() == STUCK
        assert 0.25 < time.monotonic() - began < 1.5
        assert "did not leave within 0.6 s and is ended with status 70" in app.service.log
        assert "in block\n    time.sleep(60)" in app.service.log

    @pytest.mark.slow
    @pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
    def test_a_second_signal_ends_the_delay(self, start_plain: StartLeaving, second: signal.Signals) -> None:
        app = start_plain(delay=60, within=100)
        app.service.send(signal.SIGTERM)
        time.sleep(0.05 if second == signal.SIGINT else 1.1)
        assert app.get("/readyz").status_code == 503
        app.service.send(second)
        app.service.wait(5)


@pytest.mark.slow
class TestOneWorker:
    """The product as one process."""

    def test_a_thread_that_does_not_end_keeps_nothing(self, start_product: StartLeaving) -> None:
        app = start_product(API_SERVER_LEAVE_WITHIN_S="2")
        assert app.get("/thread").status_code == 200
        app.service.send(signal.SIGTERM)
        assert app.service.wait() == STUCK
        assert "in sleep_in_a_thread" in app.service.log
        assert "Application shutdown complete" in app.service.log

    def test_a_lifespan_that_hangs_keeps_nothing(self, start_product: StartLeaving) -> None:
        app = start_product(API_SERVER_LEAVE_WITHIN_S="2", TEST_END="hang")
        app.service.send(signal.SIGTERM)
        assert app.service.wait() == STUCK
        assert "in hang_for_ever" in app.service.log
        assert '"level": "error", "logger": "api_server.draining"' in app.service.log

    def test_a_request_that_is_cut_off_is_told_so_in_one_line(self, start_product: StartLeaving) -> None:
        app = start_product(UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN="1")
        slow = app.begin("/slow?seconds=20")
        app.service.send(signal.SIGTERM)
        answer = slow.result()
        assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert (answer.headers["Retry-After"], answer.headers["Connection"]) == ("1", "close")
        assert app.service.wait() == 0
        assert "Traceback" not in app.service.log
        assert '"path": "/slow", "client": "127.0.0.1", "status": 503' in app.service.log

    def test_interrupts_that_wait_for_no_request_leave_the_rest_in_order(self, start_product: StartLeaving) -> None:
        app = start_product()
        slow = app.begin("/slow?seconds=20")
        began = time.monotonic()
        for _ in range(2):
            app.service.send(signal.SIGINT)
            time.sleep(0.3)
        assert slow.result().status_code == 503
        assert app.service.wait() == 0
        assert time.monotonic() - began < 4
        assert "Application shutdown complete" in app.service.log
        assert "Traceback" not in app.service.log

    def test_who_reloads_passes_on_that_it_was_stuck(self, start_product: StartLeaving) -> None:
        app = start_product(UVICORN_RELOAD="true", API_SERVER_LEAVE_WITHIN_S="2")
        app.begin("/block")
        app.service.wait_until_it_writes("blocking")
        app.service.send(signal.SIGTERM)
        assert app.service.wait() == STUCK

    def test_ctrl_c_at_a_terminal_has_no_delay(self, tmp_path: Path, unused_tcp_port: int) -> None:
        (tmp_path / "leaving_app.py").write_text(APPLICATION)
        environment = clean_environment(
            API_SERVER_APP="leaving_app:APP",
            PYTHONPATH=str(tmp_path),
            API_SERVER_DRAIN_DELAY_S="30",
            API_SERVER_LEAVE_WITHIN_S="60",
        )
        master, terminal = os.openpty()
        try:
            process = subprocess.Popen(
                [API_SERVER, "--port", str(unused_tcp_port), "--workers", "2"],
                stdin=terminal,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
            with httpx2.Client(transport=httpx2.HTTPTransport(retries=20)) as client:
                client.get(f"http://127.0.0.1:{unused_tcp_port}/livez", timeout=30)
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(10) == 0
        finally:
            os.close(master)
            os.close(terminal)


@pytest.mark.slow
class TestSeveralWorkers:
    """One supervisor, one socket, two processes."""

    @pytest.fixture
    def two(self, start_product: StartLeaving) -> Leaving:
        return start_product(UVICORN_WORKERS="2", API_SERVER_DRAIN_DELAY_S="1", API_SERVER_LEAVE_WITHIN_S="8")

    def test_nothing_that_was_taken_is_dropped_and_nothing_is_taken_that_nobody_answers(self, two: Leaving) -> None:
        slow = [two.begin("/slow?seconds=3") for _ in range(4)]
        two.service.send(signal.SIGTERM)
        two.service.wait_until_it_writes("Terminated child process")
        assert 0.5 < two.until_it_refuses() < 2.5
        # Workers still work, and nobody listens: neither they nor the supervisor.
        assert not any(answer.done() for answer in slow)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", two.port))
        assert [answer.result().status_code for answer in slow] == [200] * 4
        assert two.service.wait() == 0, two.service.log
        assert "Traceback" not in two.service.log

    def test_workers_are_replaced_without_a_failed_request(self, two: Leaving) -> None:
        workers = {child.pid for child in serving(two)}
        is_over = threading.Event()
        with ThreadPoolExecutor(4) as clients:
            answers = [clients.submit(ask, two.url, is_over, is_kept=number < 2) for number in range(4)]
            slow = two.begin("/slow?seconds=2")
            two.service.send(signal.SIGHUP)
            deadline = time.monotonic() + 60
            while two.service.log.count("worker replaced") < 2:
                assert time.monotonic() < deadline, two.service.log
                time.sleep(0.05)
            is_over.set()
            seen = [answer.result() for answer in answers]
        assert slow.result().status_code == 200
        # No probe, which comes on a connection of its own, is told that the service is not ready.
        assert seen == [{200}] * 4
        after = {child.pid for child in serving(two)}
        assert len(after) == 2
        assert not workers & after
        assert two.service.stop() == 0

    def test_their_number_is_kept_or_changed_on_demand(self, two: Leaving) -> None:
        victim = two.get("/pid").json()
        os.kill(victim, signal.SIGKILL)
        two.until_started(3)
        # What it says depends on whether it has asked that worker yet.
        assert re.search("worker (ended and is replaced|did not start and is tried again)", two.service.log)
        assert victim not in {child.pid for child in serving(two)}
        two.service.send(signal.SIGTTIN)
        two.until_started(4)
        assert len(serving(two)) == 3
        two.service.send(signal.SIGTTOU)
        two.service.wait_until_it_writes("Finished server process")
        assert two.get("/readyz").status_code == 200
        assert two.service.stop() == 0

    def test_those_that_are_stuck_or_frozen_are_ended(self, start_product: StartLeaving) -> None:
        two = start_product(UVICORN_WORKERS="2", API_SERVER_LEAVE_WITHIN_S="2")
        two.begin("/block")
        two.service.wait_until_it_writes("blocking")
        frozen = psutil.Process(two.get("/pid").json())
        frozen.suspend()
        began = time.monotonic()
        two.service.send(signal.SIGTERM)
        assert two.service.wait() == STUCK
        assert time.monotonic() - began < 3
        assert "in block" in two.service.log
        assert "workers did not leave by themselves" in two.service.log
        assert not frozen.is_running()

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_an_app_that_cannot_be_made_is_told_once(
        self, start_service: StartService, unused_tcp_port: int, tmp_path: Path, workers: str
    ) -> None:
        service = start_service(
            [API_SERVER],
            UVICORN_PORT=str(unused_tcp_port),
            UVICORN_WORKERS=workers,
            API_SERVER_IDENTITY="basic",
            API_SERVER_CREDENTIALS_FILE=str(tmp_path / "nowhere"),
        )
        assert service.wait() == 2, service.log
        assert service.log.count("nowhere cannot be read") == 1
        assert "Traceback" not in service.log

    def test_one_that_cannot_be_started_again_takes_nobody_down(
        self, start_product: StartLeaving, tmp_path: Path
    ) -> None:
        obstacle = tmp_path / "obstacle"
        two = start_product(UVICORN_WORKERS="2", TEST_NO_START=str(obstacle))
        obstacle.touch()
        victim = two.get("/pid").json()
        os.kill(victim, signal.SIGKILL)
        two.service.wait_until_it_writes("worker did not start and is tried again")
        assert two.get("/pid").json() != victim
        obstacle.unlink()
        two.until_started(3)
        assert len(serving(two)) == 2
        assert two.service.stop() == 0

    def test_a_hangup_of_the_terminal_leaves_the_workers_listening(self, two: Leaving) -> None:
        (first, second) = serving(two)
        first.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        second.suspend()
        try:
            assert two.get("/pid").json() == first.pid
        finally:
            second.resume()
        os.killpg(two.service.process.pid, signal.SIGHUP)
        deadline = time.monotonic() + 60
        while two.service.log.count("worker replaced") < 2:
            assert time.monotonic() < deadline, two.service.log
            assert two.get("/readyz").status_code == 200
            time.sleep(0.05)
        assert not {first, second} & set(serving(two))
        assert two.service.stop() == 0

    def test_while_one_is_replaced_the_others_are_looked_after(self, two: Leaving) -> None:
        first, second = serving(two)
        # Both are kept by something that takes its time, so that the one that leaves first stays for a while.
        slow = [two.begin("/slow?seconds=6") for _ in range(8)]
        two.service.send(signal.SIGHUP)
        two.until_started(3)
        second.kill()
        two.service.wait_until_it_writes("worker ended and is replaced", timeout=4)
        assert first.is_running()
        assert "worker replaced" not in two.service.log
        for request in slow:
            request.exception()
        assert two.service.stop() == 0


def ask(url: str, is_over: threading.Event, *, is_kept: bool) -> set[int]:
    """Ask all the time, on one connection or on a new one each time, and return the statuses of the answers."""
    statuses: set[int] = set()
    with httpx2.Client(base_url=url, timeout=20) as client:
        while not is_over.is_set():
            answer = client.get("/livez") if is_kept else client.get("/readyz", headers={"Connection": "close"})
            statuses.add(answer.status_code)
            time.sleep(0.01)
    return statuses


def serving(two: Leaving) -> list[psutil.Process]:
    """Return the workers: multiprocessing keeps a process of its own beside them."""
    children = psutil.Process(two.service.process.pid).children()
    return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]
