"""`api-server-cli lab`, as whoever tries a failover by hand runs it."""

import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import psycopg
import pytest
from api_server.exceptions import StartError
from api_server.local.lab import Lab
from api_server.local.lab_state import LabState
from api_server.local.replication import wait_until
from api_server.testing import clean_environment
from command_lines import SUPPORT, program, run_command, run_here
from typer.testing import Result

NUMBERED = "numbered_migrations:NUMBERED"
FAILING = "numbered_migrations:FAILING"


def processes_of(folder: Path) -> list[str]:
    """Return the command of each process that has to do with a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words, place = process.cmdline(), process.cwd()
        except psutil.Error:
            continue
        if any(str(folder) in word for word in [*words, place]):
            found.append(" ".join(words))
    return found


class TestTheCall:
    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            (["nonsense"], "nonsense"),
            (["up", "--nodes", "4"], "--nodes"),
            (["up", "--nodes", "two"], "--nodes"),
            (["up", "--route", "cloud"], "should be direct, haproxy or pgbouncer"),
            (["up", "--route", "pgbouncer"], "pgbouncer needs --pgbouncer"),
            (["up", "--route", "haproxy", "--no-haproxy"], "haproxy needs --haproxy"),
            (["up", "--service", "--port", "0"], "--port"),
            (["stop", "a", "--mode", "slow"], "should be fast, smart or immediate"),
            (["kill"], "PART"),
            (["cut"], "LINK"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_a_wrong_one_is_told_and_exits_with_2(self, wrong: list[str], says: str, tmp_path: Path) -> None:
        done = run_here(
            "api-server-cli", "lab", *wrong, *(["--folder", str(tmp_path / "lab")] if wrong[0] != "nonsense" else [])
        )
        assert (done.exit_code, done.stdout) == (2, "")
        assert says in done.stderr
        assert not (tmp_path / "lab").exists()

    @pytest.mark.parametrize("command", ["status", "writer", "flip", "promote", "kill a", "cut clients-a", "heal"])
    def test_without_a_lab_it_says_how_to_start_one(self, command: str, tmp_path: Path) -> None:
        done = run_here("api-server-cli", "lab", *command.split(), "--folder", str(tmp_path))
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr == f"No lab runs in {tmp_path}: start one by `api-server-cli lab up --folder {tmp_path}`.\n"

    def test_there_is_nothing_to_end_where_there_is_no_lab(self, tmp_path: Path) -> None:
        done = run_here("api-server-cli", "lab", "down", "--folder", str(tmp_path / "none"))
        assert (done.exit_code, done.stdout) == (0, f"There is no lab in {tmp_path / 'none'}.\n")

    def test_an_application_that_is_not_there_is_told_before_anything_starts(self, tmp_path: Path) -> None:
        arguments = ["--app", "nowhere:APP", "lab", "up", "--service", "--folder", str(tmp_path / "lab")]
        done = run_here("api-server-cli", *arguments)
        assert isinstance(done.exception, StartError)
        assert str(done.exception).startswith("API_SERVER_APP names nowhere:APP, whose import fails")
        assert not (tmp_path / "lab").exists()

    def test_a_port_of_the_service_that_is_taken_is_told_before_anything_starts(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            words = ["lab", "up", "--service", "--port", str(port), "--folder", str(tmp_path / "lab")]
            done = run_here("api-server-cli", "--app", NUMBERED, *words)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith(f"Port {port}, which the service needs, is taken")
        assert not (tmp_path / "lab").exists()


def answers(url: str) -> bool:
    try:
        return httpx2.get(url).status_code == 200
    except httpx2.TransportError:
        return False


@dataclass(frozen=True)
class Admin:
    """The commands on a lab that runs, and where its service is."""

    folder: Path
    port: int
    said: str

    def __call__(self, *words: str) -> Result:
        return run_here("api-server-cli", "lab", *words, "--folder", str(self.folder))

    def does(self, *words: str) -> str:
        done = self(*words)
        assert (done.exit_code, done.stderr) == (0, "")
        return done.stdout

    def refuses(self, *words: str, status: int = 1) -> str:
        done = self(*words)
        assert (done.exit_code, done.stdout) == (status, "")
        return done.stderr

    @property
    def lab(self) -> Lab:
        return Lab.open(self.folder)


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Callable[[], int]) -> Iterator[Admin]:
    folder, port = tmp_path_factory.mktemp("labs") / "a lab", unused_tcp_port_factory()
    try:
        done = up(folder, "--pgbouncer", "--service", "--route", "pgbouncer", "--port", str(port))
        assert (done.returncode, done.stderr) == (0, "")
        yield Admin(folder, port, done.stdout)
    finally:
        ended = run_command("api-server-cli", "lab", "down", "--folder", folder)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "The lab is down.\n", "")
    assert processes_of(folder) == []


def up(folder: Path, *more: str, app: str = NUMBERED) -> subprocess.CompletedProcess[str]:
    return run_command("api-server-cli", "--app", app, "lab", "up", "--free-ports", *more, "--folder", folder)


@pytest.mark.slow
class TestALabThatRuns:
    def test_it_told_where_everything_is(self, admin: Admin) -> None:
        where = dict(line.split(maxsplit=1) for line in admin.said.splitlines()[1:])
        assert where.keys() == {"direct", "haproxy", "pgbouncer", "readers", "page", "service"}
        assert admin.said.startswith(f"The lab is up in {admin.folder}: a takes writes.\n")
        assert httpx2.get(where["page"]).status_code == 200
        assert httpx2.get(where["service"] + "livez").status_code == 200
        assert where["service"] == f"http://127.0.0.1:{admin.port}/"
        for route in ("direct", "haproxy", "pgbouncer", "readers"):
            with psycopg.connect(where[route], password="postgres", connect_timeout=5) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)

    def test_the_service_has_a_database_that_is_migrated(self, admin: Admin) -> None:
        assert httpx2.get(f"http://127.0.0.1:{admin.port}/readyz").json()["state"] == "operational"
        with psycopg.connect(admin.lab.address("b").url) as connection:
            assert connection.execute("SELECT to_regclass('numbered') IS NOT NULL").fetchone() == (True,)

    def test_a_second_one_in_its_place_is_refused_and_disturbs_nothing(self, admin: Admin) -> None:
        done = up(admin.folder)
        assert (done.returncode, done.stdout) == (1, "")
        assert "runs in" in done.stderr
        assert admin.does("writer") == "a\n"

    def test_status_tells_a_person_and_a_program(self, admin: Admin) -> None:
        lines = admin.does("status").splitlines()
        assert lines[0] == "writer     a, which waits for a standby"
        assert lines[1].startswith("node a     primary on timeline ")
        assert lines[2].startswith("node b     standby on timeline ")
        assert lines[3:5] == ["haproxy    a up, b down", "pgbouncer  running"]
        told = json.loads(admin.does("status", "--json"))
        assert (told["writer"], told["is_synchronous"], told["is_pgbouncer_running"]) == ("a", True, True)
        assert [node["role"] for node in told["nodes"]] == ["primary", "standby"]

    def test_a_flip_and_a_promotion_move_the_writer(self, admin: Admin) -> None:
        assert admin.does("flip").startswith("b is the writer, on timeline ")
        assert admin.does("promote", "a").startswith("a is the writer, on timeline ")
        assert "b, fenced" in admin.does("status").replace("stopped, ", "b, ")
        assert "old primary" in admin.refuses("start", "b")
        assert admin.does("rejoin", "b") == "b follows the writer again.\n"
        assert admin.does("writer") == "a\n"

    def test_a_node_is_killed_and_started_again(self, admin: Admin) -> None:
        assert admin.does("kill", "a") == "a is killed.\n"
        assert admin.refuses("writer") == "No node takes writes.\n"
        assert admin.does("start", "a") == "a runs.\n"
        assert admin.does("writer") == "a\n"
        assert admin.does("stop", "b", "--mode", "immediate") == "b is stopped.\n"
        assert admin.does("start", "b") == "b runs.\n"

    def test_a_node_is_frozen_and_goes_on(self, admin: Admin) -> None:
        assert admin.does("freeze", "b") == "b is frozen.\n"
        assert "frozen" in admin.does("status").splitlines()[2]
        assert admin.does("thaw", "b") == "b goes on.\n"
        assert "not frozen" in admin.refuses("thaw", "b")

    def test_a_link_is_cut_and_heals(self, admin: Admin) -> None:
        assert admin.does("cut", "replication-b") == "replication-b lets nothing through.\n"
        assert "link       replication-b: drop" in admin.does("status")
        assert admin.does("heal") == "Every link passes.\n"
        assert "link" not in admin.does("status")

    def test_a_node_is_taken_out_and_brought_back(self, admin: Admin) -> None:
        assert admin.does("drain", "a") == "a gets no new clients.\n"
        assert "haproxy    a drain" in admin.does("status")
        assert admin.does("maint", "a") == "a gets nothing.\n"
        assert "haproxy    a maint" in admin.does("status")
        assert admin.does("ready", "a") == "a gets clients as they come.\n"
        wait_until(lambda: "haproxy    a up, b down" in admin.does("status"), 10, "HAProxy uses a")

    def test_the_service_is_killed_and_started_again(self, admin: Admin) -> None:
        assert admin.does("kill", "service") == "service is killed.\n"
        assert "service" not in admin.does("status")
        assert admin.does("start", "service") == "service runs.\n"
        wait_until(lambda: answers(f"http://127.0.0.1:{admin.port}/livez"), 30, "the service answers")

    @pytest.mark.parametrize("proxy", ["haproxy", "pgbouncer"])
    def test_what_stands_before_the_nodes_is_stopped_and_started_again(self, proxy: str, admin: Admin) -> None:
        assert admin.does("stop", proxy) == f"{proxy} is stopped.\n"
        assert "not running" in admin.does("status")
        assert admin.does("start", proxy) == f"{proxy} runs.\n"

    def test_a_signal_waits_for_the_end_of_a_promotion(self, admin: Admin) -> None:
        command = [program("api-server-cli"), "lab", "promote", "--folder", admin.folder]
        environment = clean_environment(PYTHONPATH=str(SUPPORT))
        with subprocess.Popen(["/usr/bin/env", "--default-signal=INT", *map(str, command)], env=environment) as process:
            wait_until(lambda: LabState.load(admin.folder).fenced == ["a"], 20, "it has begun")  # type: ignore[union-attr] # it is up
            process.send_signal(signal.SIGINT)
        assert process.returncode == 130
        assert admin.does("writer") == "b\n"
        admin.does("rejoin", "a")
        assert admin.does("flip").startswith("a is the writer")

    @pytest.mark.parametrize("proxy", ["haproxy", "pgbouncer", "switchboard"])
    def test_what_stands_before_the_nodes_is_killed_and_started_again(self, proxy: str, admin: Admin) -> None:
        assert admin.does("kill", proxy) == f"{proxy} is killed.\n"
        assert "not running" in admin.does("status")
        assert admin.does("start", proxy) == f"{proxy} runs.\n"
        assert "not running" not in admin.does("status")

    def test_the_pooler_does_what_its_console_knows(self, admin: Admin) -> None:
        assert admin.does("pooler", "PAUSE") == "PgBouncer did PAUSE.\n"
        assert admin.does("pooler", "RESUME") == "PgBouncer did RESUME.\n"
        assert "database=" in admin.does("pooler", "SHOW", "POOLS").splitlines()[0]
        assert "does not do 'NONSENSE'" in admin.refuses("pooler", "NONSENSE")

    @pytest.mark.parametrize(
        "words", [["kill", "x"], ["freeze", "clients-a"], ["cut", "a"], ["heal", "x"], ["promote", "c"]], ids=" ".join
    )
    def test_a_name_that_it_has_not_is_told_with_those_that_it_has(self, words: list[str], admin: Admin) -> None:
        told = " ".join(admin.refuses(*words, status=2).split())
        assert f"'{words[1]}' should be one of" in told


@pytest.mark.slow
class TestAStartThatFails:
    def test_a_database_that_cannot_be_migrated_leaves_nothing(self, tmp_path: Path) -> None:
        done = up(tmp_path / "lab", "--service", app=FAILING)
        assert (done.returncode, done.stdout) == (1, "")
        assert "The database cannot be migrated:" in done.stderr
        assert processes_of(tmp_path) == []

    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_one_that_is_broken_off_leaves_nothing(self, number: signal.Signals, status: int, tmp_path: Path) -> None:
        process = subprocess.Popen(
            # A run in the background ignores Ctrl-C, and so would what it starts.
            [
                "/usr/bin/env",
                "--default-signal=INT",
                program("api-server-cli"),
                "lab",
                "up",
                "--free-ports",
                "--folder",
                tmp_path / "lab",
            ],
            env=clean_environment(PYTHONPATH=str(SUPPORT)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        with process:
            wait_until(lambda: len(processes_of(tmp_path / "lab" / "nodes")) > 0, 30, "a node runs")
            process.send_signal(number)
            output, _ = process.communicate(timeout=30)
        assert (process.returncode, output) == (status, b"")
        assert processes_of(tmp_path) == []
