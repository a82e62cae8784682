"""How the command lines end: what a user can do wrong is told in sentences, and how fast they begin."""

import os
import signal
import socket
import statistics
import subprocess
import time
from pathlib import Path

import httpx2
import pytest
from api_server.testing import StartService, clean_environment
from command_lines import program, run_command

# As a shell has it: what cannot be written is found out late.
BUFFERED = clean_environment(PYTHONUNBUFFERED="")


@pytest.mark.parametrize("command", ["config", "doctor"])
def test_a_full_disk_is_told(command: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [program("api-server-cli"), command],
            env=BUFFERED,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=30,
        )
    assert (done.returncode, done.stderr) == (1, "The output cannot be written: No space left on device.\n")


@pytest.mark.parametrize("command", ["config", "doctor"])
def test_a_reader_who_leaves_is_no_traceback(command: str) -> None:
    line = f"'{program('api-server-cli')}' {command}"
    done = subprocess.run(
        ["sh", "-c", f"{{ {line}; echo $? >&2; }} | true"],
        env=BUFFERED,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stderr == "1\n"


def test_an_output_that_is_closed_is_none() -> None:
    line = f"'{program('api-server-cli')}' config >&-"
    done = subprocess.run(["sh", "-c", line], env=clean_environment(), capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("api-server", ["--port", "70000"], "UVICORN_PORT is '70000', and should be less than or equal to 65535"),
        ("api-server", ["--env-file", "/no/such.env", "run"], "The env file /no/such.env does not exist."),
        ("api-server-cli", ["--env-file", "/no/such.env", "doctor"], "The env file /no/such.env does not exist."),
        ("api-server-cli", ["--app", "no_such:APP", "greet"], "API_SERVER_APP names no_such:APP, whose import fails"),
    ],
)
def test_a_start_that_fails_is_two_and_a_sentence(command: str, arguments: list[str], says: str) -> None:
    done = run_command(command, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(says)
    assert len(done.stderr.splitlines()) == 1


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_command("api-server", "--port", port)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Cannot listen on 127.0.0.1:{port}: ")


def test_what_is_served_is_what_the_flags_say(start_service: StartService, unused_tcp_port: int) -> None:
    flags = ["--port", str(unused_tcp_port), "--profiles", "rest", "--log-level", "ERROR"]
    service = start_service([program("api-server"), *flags], UVICORN_PORT="1", API_SERVER_LOG_LEVEL="INFO")
    url = f"http://127.0.0.1:{unused_tcp_port}"
    assert service.wait_until_it_answers(f"{url}/livez").status_code == 200
    assert httpx2.get(f"{url}/graphql").status_code == 404
    service.send(signal.SIGTERM)
    assert service.wait() == 0
    assert "service started" not in service.log


@pytest.mark.slow
@pytest.mark.parametrize("command", ["api-server", "api-server-cli"])
def test_help_is_there_at_once(command: str) -> None:
    seconds = []
    for _ in range(5):
        begun = time.monotonic()
        assert run_command(command, "--help").returncode == 0
        seconds.append(time.monotonic() - begun)
    assert statistics.median(seconds) <= 0.5, seconds


@pytest.mark.parametrize("command", ["config", "doctor"])
def test_a_value_that_is_no_text_is_shown_all_the_same(command: str) -> None:
    odd = {"UVICORN_ROOT_PATH": os.fsdecode(b"/\xff"), "PYTHONIOENCODING": "utf-8:strict"}
    done = run_command("api-server-cli", command, **odd)
    assert "Traceback" not in done.stderr
    assert "UVICORN_ROOT_PATH" in done.stdout
