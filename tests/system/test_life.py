"""How the service starts, stops and survives."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from api_server.local.postgres import PostgresCluster
from api_server.testing import StartService, clean_environment
from sequencer_process import MANAGE, ROOT, StartSequencer

BROKEN_APPLICATION = """
from api_server.application import Application

async def lifespan(app, registry):
    raise RuntimeError("no start today")
    yield

APP = Application(name="broken", version="1", lifespan=lifespan)
"""


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def postmaster_of(data: Path) -> psutil.Process:
    return psutil.Process(int((data / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[0]))


# Two planning processes for each of two: slow where there are two cores.
WORKERS = ["1", pytest.param("2", marks=pytest.mark.slow)]


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
@pytest.mark.parametrize("workers", WORKERS)
def test_a_signal_stops_the_server_and_then_its_database(
    start_sequencer: StartSequencer, signal_number: signal.Signals, workers: str, game_state: dict[str, Any]
) -> None:
    sequencer = start_sequencer(UVICORN_WORKERS=workers)
    assert sequencer.plan(game_state).status_code == 200
    assert sequencer.client.get("/readyz").json()["state"] == "operational"
    processes = [*family(sequencer.service.process.pid), postmaster_of(sequencer.data)]
    sequencer.service.send(signal_number)
    assert sequencer.service.wait() == 0, sequencer.service.log
    assert_gone(processes)
    assert "Traceback" not in sequencer.service.log
    log = (sequencer.data / "postgres" / "server.log").read_text()
    assert "database system is shut down" in log


@pytest.mark.slow
def test_two_workers_answer_from_an_empty_data_folder(start_sequencer: StartSequencer) -> None:
    sequencer = start_sequencer(UVICORN_WORKERS="2")
    deadline = time.monotonic() + 30
    while sequencer.service.log.count("Application startup complete") < 2:
        assert time.monotonic() < deadline, sequencer.service.log
        time.sleep(0.05)
    assert sequencer.client.get("/api/v1/health").status_code == 200


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.slow
def test_a_server_that_was_killed_breaks_no_later_start(
    start_sequencer: StartSequencer, game_state: dict[str, Any], workers: str
) -> None:
    killed = start_sequencer(UVICORN_WORKERS=workers)
    assert killed.plan(game_state).status_code == 200
    children = psutil.Process(killed.service.process.pid).children(recursive=True)
    killed.service.send(signal.SIGKILL)
    killed.service.wait()
    assert_gone(children)
    again = start_sequencer(UVICORN_PORT=killed.url.rpartition(":")[2])
    assert "Using the PostgreSQL that runs already." in again.service.log
    assert again.client.get("/readyz").json()["state"] == "operational"
    postmaster = postmaster_of(again.data)
    assert again.service.stop() == 0
    assert_gone([postmaster])


@pytest.mark.slow
def test_a_restart_while_the_old_server_ends_has_a_database(
    start_sequencer: StartSequencer, game_state: dict[str, Any]
) -> None:
    old = start_sequencer(SEQUENCER_TIMEOUT_MS="2000")
    with ThreadPoolExecutor(1) as client:
        plan = client.submit(old.plan, game_state)
        old.service.wait_until_it_writes("Application startup complete")
        new = start_sequencer(wait=False)
        old.service.send(signal.SIGTERM)
        assert plan.result().status_code == 200
    assert old.service.wait() == 0
    new.service.wait_until_it_answers(f"{new.url}/livez")
    assert new.client.get("/readyz").json()["state"] == "operational"


@pytest.mark.slow
def test_the_embedded_database_may_stop_and_come_back(
    start_sequencer: StartSequencer, game_state: dict[str, Any]
) -> None:
    sequencer = start_sequencer(SEQUENCER_TIMEOUT_MS="50")
    port = int((sequencer.data / "postgres/data/postmaster.pid").read_text().splitlines()[3])
    database = PostgresCluster(sequencer.data / "postgres", say=lambda text: None, port=port)
    database.stop()
    sequencer.service.wait_until_it_writes('"state": "degraded"')
    assert sequencer.plan(game_state).status_code == 200
    sequencer.service.output.write_text("")
    database.start()
    sequencer.service.wait_until_it_writes('"state": "operational"')
    assert sequencer.service.stop() == 0


@pytest.mark.parametrize("as_it_starts", [True, False])
@pytest.mark.slow
def test_a_terminal_that_hangs_up_leaves_nothing_behind(start_sequencer: StartSequencer, as_it_starts: bool) -> None:
    sequencer = start_sequencer(wait=not as_it_starts)
    if as_it_starts:
        sequencer.service.wait_until_it_writes("Starting PostgreSQL")
    processes = family(sequencer.service.process.pid)
    sequencer.service.send(signal.SIGHUP)
    assert sequencer.service.wait() == 0, sequencer.service.log
    assert_gone(processes)
    assert not (sequencer.data / "postgres" / "data" / "postmaster.pid").exists()


@pytest.mark.slow
def test_a_change_of_the_sources_is_served_after_a_reload(
    start_sequencer: StartSequencer, in_memory: dict[str, str]
) -> None:
    sequencer = start_sequencer(**in_memory, UVICORN_RELOAD="true")
    watched = next(line["event"] for line in sequencer.server_log if "Will watch" in line["event"])
    assert str(ROOT / "throttling_sequencer_fastapi" / "throttling_sequencer") in watched
    assert str(ROOT / "api_server_fastapi" / "api_server") in watched
    assert sequencer.service.stop() == 0


@pytest.mark.slow
def test_probes_need_no_identity_behind_a_proxy_that_serves_a_path(start_sequencer: StartSequencer) -> None:
    sequencer = start_sequencer(ENV_TYPE="production", UVICORN_ROOT_PATH="/svc")
    for path in ("/livez", "/readyz"):
        assert sequencer.client.get(path).status_code == 200
    assert sequencer.client.get("/version").status_code == 401


def test_a_service_in_production_starts_with_nothing_around_it(
    start_sequencer: StartSequencer, game_state: dict[str, Any]
) -> None:
    sequencer = start_sequencer(ENV_TYPE="production")
    assert not sequencer.data.exists()
    assert "no identity provider: what needs identity answers 401" in sequencer.service.log
    told = sequencer.service.wait_until_it_writes("Throttling Sequencer is ready")
    assert "curl" not in told
    report = sequencer.client.get("/readyz")
    assert (report.status_code, report.json()["state"]) == (200, "degraded")
    answer = sequencer.plan(game_state)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert sequencer.client.get("/livez").status_code == 200


class TestStartsThatFail:
    """One sentence, a status that is not 0, and nothing left running."""

    def fails(self, tmp_path: Path, *arguments: str | Path, **environment: str) -> str:
        command: list[str | Path] = [sys.executable, MANAGE, "--data", tmp_path / "data", *arguments]
        done = subprocess.run(
            command,
            env=clean_environment(**environment),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode not in (0, None), done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    def test_a_port_that_is_taken(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            told = self.fails(tmp_path, UVICORN_PORT=port)
        assert told == (
            f"Cannot listen on 127.0.0.1:{port}: Address already in use. Set UVICORN_HOST to an address of this "
            "machine and UVICORN_PORT to a port that is free; 0 takes any.\n"
        )
        assert not (tmp_path / "data").exists()

    def test_an_address_of_another_machine(self, tmp_path: Path) -> None:
        assert "Cannot listen on 192.0.2.1:0" in self.fails(tmp_path, UVICORN_HOST="192.0.2.1", UVICORN_PORT="0")

    def test_a_host_that_is_no_address(self, tmp_path: Path) -> None:
        assert "Cannot listen on no such host:0" in self.fails(tmp_path, UVICORN_HOST="no such host", UVICORN_PORT="0")

    def test_a_data_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_text("a file")
        told = self.fails(tmp_path, UVICORN_PORT="0")
        assert told.startswith(f"The data folder {tmp_path}/data/postgres cannot be written: Not a directory. Make it")

    def test_no_usable_postgres(self, tmp_path: Path) -> None:
        told = self.fails(tmp_path, UVICORN_PORT="0", PG_BIN="/nowhere")
        assert told == "PG_BIN is '/nowhere', but /nowhere/initdb is no program that can be run.\n"

    def test_variables_that_make_no_sense(self, tmp_path: Path) -> None:
        wrong = {
            "UVICORN_PORT": "http",
            "API_SERVER_LOG_LEVEL": "loud",
            "PICCOLO_DB_PORT": "-1",
            "SEQUENCER_TIMEOUT_MS": "0",
            "uvicorn_prot": "1",
        }
        told = self.fails(tmp_path, **wrong).splitlines()
        assert len(told) == len(wrong)
        assert sorted(line.split(" ")[0].upper() for line in told) == sorted(name.upper() for name in wrong)

    def test_an_env_file_that_is_not_there(self, tmp_path: Path) -> None:
        assert self.fails(tmp_path, "--env-file", "none.env") == "The env file none.env does not exist.\n"

    @pytest.mark.parametrize("workers", ["1", "2"])
    @pytest.mark.slow
    def test_an_app_that_does_not_start(self, tmp_path: Path, workers: str) -> None:
        (tmp_path / "broken.py").write_text(BROKEN_APPLICATION)
        environment = clean_environment(API_SERVER_APP="broken:APP", UVICORN_WORKERS=workers, PYTHONPATH=str(tmp_path))
        command: list[str | Path] = [Path(sys.executable).with_name("api-server"), "--port", "0"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 3

    def test_an_application_that_is_not_there(self, tmp_path: Path) -> None:
        command: list[str | Path] = [Path(sys.executable).with_name("api-server"), "--app", "no.such:APP"]
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr == "API_SERVER_APP names no.such:APP, whose import fails: No module named 'no'.\n"

    def test_without_the_environment_it_says_how_to_make_one(self, tmp_path: Path) -> None:
        done = subprocess.run([sys.executable, "-S", "-I", MANAGE], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "Run `make setup`, then use .venv/bin/python." in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_env_file_is_read_and_reaches_every_process(
    start_sequencer: StartSequencer, tmp_path: Path, in_memory: dict[str, str], game_state: dict[str, Any]
) -> None:
    (tmp_path / "my.env").write_text("SEQUENCER_TIMEOUT_MS=20\nUVICORN_WORKERS=2\nSEQUENCER_MAX_SEQUENCE_LENGTH=3\n")
    sequencer = start_sequencer("--env-file", str(tmp_path / "my.env"), **in_memory)
    assert len(sequencer.plan(game_state).json()) <= 3


@pytest.mark.slow
def test_the_env_file_of_the_readme_serves(start_sequencer: StartSequencer) -> None:
    sequencer = start_sequencer("--env-file", str(ROOT / "configuration/local_or_ide/local_development.env"))
    assert sequencer.client.get("/readyz").json()["state"] == "operational"


@pytest.mark.slow
def test_every_line_of_the_log_has_one_shape(
    start_sequencer: StartSequencer, in_memory: dict[str, str], game_state: dict[str, Any]
) -> None:
    sequencer = start_sequencer(**in_memory, SEQUENCER_TIMEOUT_MS="20", API_SERVER_LOG_LEVEL="DEBUG")
    answer = sequencer.client.get("/version", headers={"X-Request-ID": "mine"})
    sequencer.service.stop()
    lines = sequencer.server_log
    assert {tuple(line)[:4] for line in lines} == {("timestamp", "level", "logger", "event")}
    (line,) = [line for line in lines if line.get("request_id") == answer.headers["X-Request-ID"]]
    assert (line["event"], line["user_id"], line["correlation_id"]) == ("request answered", "developer", "mine")
    told = [text for text in sequencer.service.log.splitlines() if not text.startswith("{")]
    assert all("curl" in text or "Throttling Sequencer is ready" in text or not text for text in told), told


def test_the_foundation_serves_alone(start_service: StartService, unused_tcp_port_factory: Callable[[], int]) -> None:
    port = unused_tcp_port_factory()
    service = start_service([Path(sys.executable).with_name("api-server"), "--port", str(port)])
    answer = service.wait_until_it_answers(f"http://127.0.0.1:{port}/readyz")
    assert (answer.status_code, answer.json()["state"]) == (503, "error")
    assert service.stop() == 0


@pytest.mark.slow
def test_the_flags_of_api_server_reach_its_workers(
    start_service: StartService, in_memory: dict[str, str], unused_tcp_port_factory: Callable[[], int]
) -> None:
    port = unused_tcp_port_factory()
    command = [Path(sys.executable).with_name("api-server"), "--app", "throttling_sequencer.app:SEQUENCER"]
    service = start_service([*command, "--port", str(port), "--workers", "2"], **in_memory)
    answer = service.wait_until_it_answers(f"http://127.0.0.1:{port}/version")
    assert answer.json()["name"] == "throttling_sequencer"
    assert service.stop() == 0


def test_a_development_identity_on_a_public_address_is_warned_of(
    start_service: StartService, unused_tcp_port_factory: Callable[[], int]
) -> None:
    port = unused_tcp_port_factory()
    command = [Path(sys.executable).with_name("api-server"), "--host", "0.0.0.0", "--port", str(port)]
    service = start_service(command)
    service.wait_until_it_answers(f"http://127.0.0.1:{port}/livez")
    assert "development identity on a public address: everybody is believed" in service.log


@pytest.mark.slow
def test_ctrl_c_reaches_the_whole_group_and_one_process_decides(
    start_sequencer: StartSequencer, in_memory: dict[str, str]
) -> None:
    sequencer = start_sequencer(**in_memory)
    processes = family(sequencer.service.process.pid)
    os.killpg(sequencer.service.process.pid, signal.SIGINT)
    assert sequencer.service.wait() == 0
    assert_gone(processes)
    assert "Traceback" not in sequencer.service.log


@pytest.mark.slow
def test_the_server_s_data_is_where_it_was_told_to_be(start_sequencer: StartSequencer, tmp_path: Path) -> None:
    sequencer = start_sequencer(data=tmp_path / "here and there")
    assert PostgresCluster(tmp_path / "here and there" / "postgres").data.is_dir()
    assert sequencer.service.stop() == 0
