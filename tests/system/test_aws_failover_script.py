"""The script that fails an Aurora cluster over: with moto, stand-ins for SSM and its plugin, real PostgreSQL."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
import session_plugin
from api_server.local.binaries import postgres_binaries
from api_server.testing import ServiceProcess
from aws_cloud import CLUSTER, DATABASE, MANAGED, MEMBERS, PASSWORD, REGION, Cloud, running_cloud
from sequencer_process import ROOT

SCRIPT = ROOT / "testing_payloads" / "aws_rds_port_forward_failover_sequence.sh"
NAME = SCRIPT.name
BIN = Path(sys.executable).parent
SHELLCHECK = BIN / "shellcheck"

# All that the script may call, beside aws, its plugin and psql.
TOOLS = ("bash", "cat", "date", "dirname", "mktemp", "rm", "sleep", "tr")
NAMES = ("--cluster", CLUSTER, "--bastion", "i-0123456789abcdef0")


@dataclass
class Desk:
    """Somebody's machine: what is installed there, and who they are."""

    folder: Path
    ports: tuple[int, int]
    environment: dict[str, str]
    running: ExitStack
    script: Path = SCRIPT

    @property
    def tools(self) -> Path:
        return self.folder / "tools"

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    def command(self, *arguments: str) -> list[str | Path]:
        ports = ("--writer-port", str(self.ports[0]), "--reader-port", str(self.ports[1]))
        return [self.script, *ports, "--interval", "0.1", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def start(self, *arguments: str) -> ServiceProcess:
        output = self.folder / "output"
        service = ServiceProcess(self.command(*arguments), self.environment, output, self.folder)
        self.running.callback(service.stop)
        return service

    @property
    def left(self) -> list[str]:
        """Processes and files of the script that are still there."""
        return [" ".join(one.info["cmdline"]) for one in self.processes] + [
            str(file) for file in self.scratch.iterdir()
        ]

    @property
    def processes(self) -> list[psutil.Process]:
        """Tunnels: the ports are this machine's own."""
        marks = [f'"{port}"' for port in self.ports]
        found = psutil.process_iter(["cmdline"])
        return [one for one in found if any(mark in " ".join(one.info["cmdline"] or []) for mark in marks)]


@pytest.fixture
def desk(tmp_path: Path, unused_tcp_port_factory: Callable[[], int]) -> Iterator[Desk]:
    """A machine where everything is installed."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tmp_path / "scratch").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tools / tool).symlink_to(found)
    write(tools / "psql", f'#!/bin/sh\nexec "{postgres_binaries() / "psql"}" "$@"\n')
    write(tools / "aws", f'#!/bin/sh\nexec "{sys.executable}" "{BIN / "aws"}" "$@"\n')
    write(tools / "session-manager-plugin", f"#!{sys.executable}\n" + Path(session_plugin.__file__).read_text())
    environment = {
        "PATH": str(tools),
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path / "scratch"),
        "PGPASSWORD": PASSWORD,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }
    with ExitStack() as running:
        desk = Desk(tmp_path, (unused_tcp_port_factory(), unused_tcp_port_factory()), environment, running)
        yield desk
    # Of a test that failed, nothing is left either.
    for process in desk.processes:
        process.kill()


def write(file: Path, text: str) -> None:
    """Make a program; in place of a link, never through it."""
    file.unlink(missing_ok=True)
    file.write_text(text)
    file.chmod(0o755)


class TestWithoutAws:
    def test_it_tells_what_it_can(self, desk: Desk) -> None:
        done = desk.run("--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"Usage: {NAME} ")
        options = set(re.findall(r"(--[a-z-]+)[) ]", SCRIPT.read_text().partition("while [ $# -gt 0 ]")[2]))
        assert options >= {"--cluster", "--bastion", "--dry-run"}
        assert {option for option in options if option not in done.stdout} == set()

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            (["--bastion", "i-1"], "--cluster is missing"),
            (["--cluster", "demo"], "--bastion is missing"),
            ([*NAMES, "--nonsense"], "there is no option --nonsense"),
            ([*NAMES, "--region"], "--region needs a value"),
            (["--cluster", "a b", "--bastion", "i-1"], "--cluster should be a name, not 'a b'"),
            (["--cluster", "demo", "--bastion", "--dry-run"], "--bastion should be a name"),
            ([*NAMES, "--failovers", "101"], "--failovers should be a whole number from 0 to 100"),
            ([*NAMES, "--timeout", "0"], "--timeout should be a whole number from 1 to 3600"),
            ([*NAMES, "--writer-port", "65536"], "--writer-port should be a whole number from 1 to 65535"),
            *(
                ([*NAMES, "--interval", interval], "--interval should be a number from 0.1 to 60")
                for interval in ("61", "60.5", "0", "0.05", ".5", "5.", "1e1", "1.2.3")
            ),
            ([*NAMES, "--reader-port", "7", "--writer-port", "7"], "--writer-port and --reader-port should differ"),
            ([*NAMES, "--failovers", "2", "--target-instance", "a"], "--target-instance is for one failover"),
        ],
    )
    def test_a_wrong_call_is_an_error_of_its_own(self, wrong: list[str], told: str, desk: Desk) -> None:
        done = desk.run(*wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"{NAME}: {told}")
        assert done.stderr.endswith("; see --help\n")

    def test_a_dry_run_prints_what_it_would_call_and_calls_nothing(self, desk: Desk) -> None:
        for tool in ("aws", "session-manager-plugin", "psql"):
            write(desk.tools / tool, f'#!/bin/sh\ntouch "{desk.folder / "called"}"\n')
        done = desk.run(*NAMES, "--profile", "some one", "--user", "me", "--failovers", "2", "--dry-run")
        assert (done.returncode, done.stderr) == (0, "")
        calls = [shlex.split(line) for line in done.stdout.splitlines()]
        assert [call[:3] for call in calls] == [
            ["aws", "rds", "describe-db-clusters"],
            ["aws", "ec2", "describe-instances"],
            ["aws", "ssm", "start-session"],
            ["aws", "ssm", "start-session"],
            ["aws", "rds", "failover-db-cluster"],
            ["aws", "rds", "failover-db-cluster"],
        ]
        assert all(call[-2:] == ["--profile", "some one"] for call in calls)
        assert not (desk.folder / "called").exists()
        assert desk.left == []

    @pytest.mark.parametrize("interval", ["0.1", "0.25", "1", "010.5", "59.99", "60", "60.0"])
    def test_an_interval_may_have_a_fraction(self, interval: str, desk: Desk) -> None:
        done = desk.run(*NAMES, "--interval", interval, "--dry-run")
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_number_may_begin_with_0(self, desk: Desk) -> None:
        done = desk.run(*NAMES, "--failovers", "010", "--writer-port", "09000", "--dry-run")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("failover-db-cluster") == 10
        assert '"localPortNumber":["9000"]' in done.stdout

    @pytest.mark.parametrize("tool", ["aws", "session-manager-plugin"])
    def test_what_is_not_installed_is_named(self, tool: str, desk: Desk) -> None:
        (desk.tools / tool).unlink()
        done = desk.run(*NAMES)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"{NAME}: there is no {tool}")
        assert desk.left == []

    def test_shellcheck_finds_nothing(self) -> None:
        done = subprocess.run([SHELLCHECK, SCRIPT], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

    def test_it_can_be_started_by_its_name_and_stops_at_the_first_error(self) -> None:
        assert os.access(SCRIPT, os.X_OK)
        text = SCRIPT.read_text()
        assert text.startswith("#!/usr/bin/env bash\n")
        assert "\nset -eu\n" in text


@pytest.fixture(scope="module")
def shared_cloud(
    tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Callable[[], int]
) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud"), unused_tcp_port_factory) as cloud:
        yield cloud


@pytest.fixture
def cloud(shared_cloud: Cloud, desk: Desk) -> Cloud:
    shared_cloud.reset()
    desk.environment["AWS_ENDPOINT_URL"] = shared_cloud.url
    return shared_cloud


@pytest.fixture
def names(cloud: Cloud) -> tuple[str, ...]:
    return ("--cluster", CLUSTER, "--bastion", MANAGED)


def write_through(port: int, key: str) -> None:
    """Write as an application would."""
    with psycopg.connect(host="127.0.0.1", port=port, user="postgres", password=PASSWORD, dbname=DATABASE) as tunnel:
        tunnel.execute("INSERT INTO written VALUES (%s)", (key,))


def wait_until_written(service: ServiceProcess, text: str, times: int) -> str:
    deadline = time.monotonic() + 30
    while (log := service.log).count(text) < times:
        assert time.monotonic() < deadline, log
        time.sleep(0.02)
    return log


def plugins(service: ServiceProcess) -> list[psutil.Process]:
    """The stand-ins of the plugin that lead somewhere, in the order of their start."""
    children = psutil.Process(service.process.pid).children(recursive=True)
    found = [one for one, command in zip(children, commands(children), strict=True) if "StartSession" in command]
    return sorted(found, key=lambda one: one.create_time())


def commands(processes: list[psutil.Process]) -> list[list[str]]:
    """How each was started; nothing of one that has ended."""
    found: list[list[str]] = []
    for one in processes:
        try:
            found.append(one.cmdline())
        except psutil.NoSuchProcess:
            found.append([])
    return found


@pytest.mark.slow
class TestFailover:
    def test_the_tunnels_follow_the_writer(self, desk: Desk, cloud: Cloud, names: tuple[str, ...]) -> None:
        """Also where the endpoints' names lead to where the writer and the reader were for one more session."""
        cloud.looks_until_it_moves, cloud.stale_sessions = 2, 1
        one, two = cloud.writer, cloud.reader
        named = ("--bastion", cloud.bastion, "--user", "postgres", "--target-instance", two)
        # Numbers that begin with 0 are decimal, also where they are counted with.
        service = desk.start(*names, *named, "--failovers", "01", "--timeout", "090", "--keep-open")
        log = service.wait_until_it_writes("stay open until Ctrl-C", timeout=60)
        write_through(desk.ports[0], "after the failover")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            write_through(desk.ports[1], "to a reader")
        assert service.stop() == 143
        opened, answered, elsewhere = {}, {}, {}
        for role, other, port in zip(("writer", "reader"), ("reader", "writer"), desk.ports, strict=True):
            end = f"127.0.0.1:{port}"
            opened[role] = f"{end} leads through {cloud.bastion} to {cloud.endpoints[role]}:5432"
            answered[role] = f"{end} is answered by the {role} 127.0.0.1"
            elsewhere[role] = f"{end} should lead to a {role}, and leads to the {other} 127.0.0.1"
        lines = [re.sub(r"^\d\d:\d\d:\d\d |\d+(?= s\b)", "", line) for line in log.splitlines()]
        assert lines == [
            f"the cluster demo is available: writer {one}, reader {two}",
            *(told[role] for role in opened for told in (opened, answered)),
            "failover 1 of 1: asked for",
            f"the cluster demo is available: writer {two}, reader {one}",
            *(told[role] for role in opened for told in (opened, elsewhere, opened, answered)),
            f"failover 1 of 1: from {one} to {two} after  s, its tunnel after  s",
            "the tunnels stay open until Ctrl-C",
        ]
        assert cloud.asked["FailoverDBCluster"] == 1
        with psycopg.connect(cloud.nodes[two].address.url) as connection:
            assert connection.execute("SELECT key FROM written").fetchall() == [("after the failover",)]
        assert desk.left == []

    def test_without_psql_the_projects_python_asks(self, desk: Desk, cloud: Cloud, names: tuple[str, ...]) -> None:
        (desk.tools / "psql").unlink()
        elsewhere = desk.folder / "project" / "testing_payloads"
        elsewhere.mkdir(parents=True)
        desk.script = Path(shutil.copy(SCRIPT, elsewhere))
        interpreter = desk.folder / "project" / ".venv" / "bin" / "python"
        interpreter.parent.mkdir(parents=True)
        write(interpreter, f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        done = desk.run(*names, "--user", "postgres", "--failovers", "0")
        assert (done.returncode, done.stderr) == (0, "")
        assert f"{desk.ports[0]} is answered by the writer 127.0.0.1\n" in done.stdout
        assert f"{desk.ports[1]} is answered by the reader 127.0.0.1\n" in done.stdout


@pytest.mark.slow
class TestKeptOpen:
    @pytest.fixture
    def service(self, desk: Desk, cloud: Cloud, names: tuple[str, ...]) -> ServiceProcess:
        """Without psql, which nobody needs who does not ask the database."""
        (desk.tools / "psql").unlink()
        service = desk.start(*names, "--failovers", "0", "--keep-open")
        service.wait_until_it_writes("stay open until Ctrl-C")
        return service

    def test_a_tunnel_is_opened_again_when_it_has_ended_and_when_somebody_else_moved_the_writer(
        self, desk: Desk, cloud: Cloud, service: ServiceProcess
    ) -> None:
        again = f"127.0.0.1:{desk.ports[0]} leads through"
        plugins(service)[0].kill()
        assert "SIGKILL" in wait_until_written(service, again, 2)
        write_through(desk.ports[0], "after the tunnel's end")
        cloud.fail_over()
        # Who was connected has to connect anew, whether anybody asks the database or not.
        wait_until_written(service, again, 3)
        wait_until_written(service, f"127.0.0.1:{desk.ports[1]} leads through", 2)
        write_through(desk.ports[0], "after somebody's failover")
        assert service.stop() == 143
        assert desk.left == []

    def test_that_aws_does_not_answer_is_told_once_and_no_child_outlives_ctrl_c(
        self, desk: Desk, cloud: Cloud, service: ServiceProcess
    ) -> None:
        silent, heard = "AWS does not tell who writes", "AWS tells who writes again"
        for incident in (1, 2):
            cloud.refused = "DescribeDBClusters", "ExpiredToken"
            log = wait_until_written(service, silent, incident)
            assert "so the tunnels may not follow: there are no credentials that AWS takes: check --profile" in log
            looks, deadline = cloud.asked["DescribeDBClusters"], time.monotonic() + 30
            while cloud.asked["DescribeDBClusters"] < looks + 2:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            cloud.refused = None
            log = wait_until_written(service, heard, incident)
            assert (log.count(silent), log.count(heard)) == (incident, incident)
        groups = {os.getpgid(one.pid) for one in plugins(service)}
        assert len(groups) == 2
        # A terminal sends SIGINT to the group in its foreground, which the tunnels are not of.
        assert service.process.pid not in groups
        os.killpg(service.process.pid, signal.SIGINT)
        assert service.wait(10) == 130
        assert desk.left == []

    def test_a_tunnel_that_does_not_end_is_killed_even_if_the_script_is_ended_meanwhile(
        self, desk: Desk, cloud: Cloud, names: tuple[str, ...]
    ) -> None:
        desk.environment["SESSION_PLUGIN_GOES_ON"] = "1"
        service = desk.start(*names, "--failovers", "0", "--keep-open")
        service.wait_until_it_writes("stay open until Ctrl-C")
        plugin = plugins(service)[0]
        cloud.fail_over()
        service.wait_until_it_writes(f"writer {cloud.writer}, reader {cloud.reader}")
        # Which it does next while it waits for a tunnel's end.
        script, deadline = psutil.Process(service.process.pid), time.monotonic() + 20
        while ["sleep", "0.02"] not in commands(script.children()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert plugin.is_running()
        service.send(signal.SIGTERM)
        assert service.wait(15) == 143
        assert desk.left == []

    def test_who_reads_may_have_enough(self, desk: Desk, cloud: Cloud, names: tuple[str, ...]) -> None:
        command = desk.command(*names, "--failovers", "0", "--keep-open")
        with subprocess.Popen(command, env=desk.environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.wait(timeout=15) in {141, -signal.SIGPIPE}
        assert desk.left == []


@pytest.mark.slow
class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["--cluster", "nobody"], "the cluster nobody is not known: there is no such cluster: check --cluster"),
            (["--cluster", "alone"], "the cluster alone has no writer and reader, and cannot fail over: check --clust"),
            (["--bastion", "i-0123456789abcdef0"], "the bastion i-0123456789abcdef0 is not known: there is no such"),
            (["--bastion", "mi-0123456789abcdef0"], "the tunnel to the writer does not open: SSM does not reach the "),
            (["--target-instance", "nobody"], "nobody is no reader of demo: check --target-instance"),
            (["--profile", "nobody"], "the cluster demo is not known: check --profile"),
            (["--user", "nobody"], "the writer does not let in: check --user"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_a_wrong_name_is_told_by_its_option(
        self, arguments: list[str], told: str, desk: Desk, cloud: Cloud, names: tuple[str, ...]
    ) -> None:
        done = desk.run(*names, *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith(f"{NAME}: {told}")
        assert done.stderr.count("\n") == 1
        assert cloud.asked["FailoverDBCluster"] == 0
        assert desk.left == []

    def test_who_writes_already_is_no_target(self, desk: Desk, cloud: Cloud, names: tuple[str, ...]) -> None:
        done = desk.run(*names, "--target-instance", cloud.writer)
        assert done.returncode == 1
        assert done.stderr == f"{NAME}: {cloud.writer} is the writer already: check --target-instance\n"

    @pytest.mark.parametrize(
        ("missing", "told"),
        [
            ("AWS_DEFAULT_REGION", "the cluster demo is not known: check --region"),
            ("AWS_ACCESS_KEY_ID", "the cluster demo is not known: there are no credentials that AWS takes: check --p"),
        ],
    )
    def test_what_aws_has_to_know_is_told(
        self, missing: str, told: str, desk: Desk, cloud: Cloud, names: tuple[str, ...]
    ) -> None:
        del desk.environment[missing]
        done = desk.run(*names)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"{NAME}: {told}")

    def test_a_bastion_that_does_not_run_is_told(self, desk: Desk, cloud: Cloud, names: tuple[str, ...]) -> None:
        cloud.call("ec2", "StopInstances", **{"InstanceId.1": cloud.bastion})
        try:
            done = desk.run(*names, "--bastion", cloud.bastion)
        finally:
            cloud.call("ec2", "StartInstances", **{"InstanceId.1": cloud.bastion})
        assert done.returncode == 1
        assert done.stderr == f"{NAME}: the bastion {cloud.bastion} is stopped: start it, or check --bastion\n"

    def test_a_port_that_is_taken_is_told(self, desk: Desk, cloud: Cloud, names: tuple[str, ...]) -> None:
        port = desk.ports[0]
        with socket.create_server(("127.0.0.1", port)):
            done = desk.run(*names)
        assert done.returncode == 1
        assert done.stderr == f"{NAME}: port {port} of 127.0.0.1 is taken: check --writer-port\n"
        assert desk.left == []

    def test_a_right_that_is_missing_is_told(self, desk: Desk, cloud: Cloud, names: tuple[str, ...]) -> None:
        cloud.refused = "FailoverDBCluster", "AccessDenied"
        done = desk.run(*names)
        assert done.returncode == 1
        assert done.stderr.startswith(f"{NAME}: no failover: a right is missing, see aws_failover_notes.md")
        assert desk.left == []

    def test_a_writer_that_stays_is_not_waited_for_longer_than_said(
        self, desk: Desk, cloud: Cloud, names: tuple[str, ...]
    ) -> None:
        cloud.looks_until_it_moves = None
        done = desk.run(*names, "--timeout", "3", "--interval", "0.25", "--target-instance", cloud.reader)
        assert done.returncode == 1
        members = f"writer {cloud.writer}, reader {cloud.reader}"
        assert done.stderr == (
            f"{NAME}: the writer did not move to {cloud.reader} within 3 s: the cluster demo is available: {members}\n"
        )
        assert desk.left == []

    def test_there_must_be_something_to_ask_by(self, desk: Desk, cloud: Cloud, names: tuple[str, ...]) -> None:
        (desk.tools / "psql").unlink()
        desk.script = Path(shutil.copy(SCRIPT, desk.folder))
        done = desk.run(*names, "--user", "postgres")
        assert done.returncode == 1
        assert done.stderr.startswith(f"{NAME}: there is neither psql nor the project's Python to ask by")


@pytest.mark.slow
def test_the_stand_in_is_one(shared_cloud: Cloud) -> None:
    """Of the two servers one takes writes, and it is the one that RDS names."""
    assert {name: node.is_in_recovery for name, node in shared_cloud.nodes.items()} == {
        name: name != shared_cloud.writer for name in MEMBERS
    }
