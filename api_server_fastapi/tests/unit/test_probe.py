"""The probe of a container: it can fail, in time, and says why."""

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator

import pytest
from api_server.testing import clean_environment
from raw_server import answering


def probe(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "api_server.probe"]
    return subprocess.run(
        command, env=clean_environment(**environment), capture_output=True, text=True, check=False, timeout=30
    )


def answer(status: str) -> tuple[bytes]:
    return (f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}".encode(),)


def one_byte_at_a_time() -> Iterator[bytes]:
    for _ in itertools.count():
        yield b"H"
        time.sleep(0.2)


def test_a_service_that_is_ready() -> None:
    with answering(answer("200 OK")) as port:
        done = probe(UVICORN_PORT=str(port))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("chunks", "says"),
    [
        (answer("503 Service Unavailable"), "not ready: 503 {}\n"),
        (answer("404 Not Found"), "not ready: 404 {}\n"),
        (answer("302 Found"), "not ready: 302 {}\n"),
        ((b"SSH-2.0-OpenSSH\r\n",), "not ready: BadStatusLine('SSH-2.0-OpenSSH\\r\\n')\n"),
        pytest.param((), "not ready: TimeoutError('no answer within 3 s')\n", marks=pytest.mark.slow),
        (one_byte_at_a_time(), "not ready: TimeoutError('no answer within 3 s')\n"),
    ],
    ids=["error", "something else", "elsewhere", "no HTTP", "silent", "endless"],
)
def test_a_service_that_is_not(chunks: Iterable[bytes], says: str) -> None:
    with answering(chunks) as port:
        started = time.monotonic()
        done = probe(UVICORN_PORT=str(port))
        took = time.monotonic() - started
    assert (done.returncode, done.stderr) == (1, says)
    assert took < 5


def test_nothing_that_listens(unused_tcp_port_factory: Callable[[], int]) -> None:
    done = probe(UVICORN_PORT=str(unused_tcp_port_factory()))
    assert done.returncode == 1
    assert "ConnectionRefusedError" in done.stderr


def test_a_port_that_is_none() -> None:
    done = probe(UVICORN_PORT="http")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)


@pytest.mark.parametrize(
    "address",
    [{"UVICORN_HOST": "0.0.0.0"}, {"UVICORN_HOST": "127.0.0.1"}, {"UVICORN_HOST": ""}, {"uvicorn_host": "localhost"}],
)
def test_it_asks_where_the_service_listens(address: dict[str, str]) -> None:
    with answering(answer("200 OK")) as port:
        assert probe(**address, UVICORN_PORT="1", uvicorn_port=str(port)).returncode == 0


def test_it_loads_the_standard_library_only() -> None:
    program = (
        "import sys; before = set(sys.modules); import api_server.probe\n"
        "print(*{name.partition('.')[0] for name in sys.modules.keys() - before} - sys.stdlib_module_names)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "api_server\n"
