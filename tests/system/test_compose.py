"""What those with Docker run as the failover lab: the file says what it should, and its parts work together."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
import yaml
from api_server.local.background import BackgroundProcess
from api_server.local.binaries import as_ordinary_user, changes_user, postgres_binaries
from api_server.local.haproxy import haproxy_binary
from api_server.local.replication import wait_until
from api_server.server import UvicornServerConfig
from api_server.settings import Settings, variables_of
from dotenv import dotenv_values
from sequencer_process import ROOT
from throttling_sequencer.core.database_config import PiccoloDBConfig
from throttling_sequencer.core.settings import SequencerSettings

FILE = ROOT / "deploy" / "compose.multi-db.yml"
COMPOSE: Mapping[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: Mapping[str, Mapping[str, Any]] = COMPOSE["services"]
NODES = ("db1", "db2")
CONFIGURATION = ROOT / "configuration"
NODE_SCRIPT = ROOT / "deploy" / "postgres" / "node.sh"
HAPROXY_CONFIGURATION = ROOT / "deploy" / "haproxy" / "multi-db.cfg"


def published() -> dict[str, str]:
    """Return the container's port for each address of the host."""
    return {
        host: container
        for service in SERVICES.values()
        for host, _, container in (port.rpartition(":") for port in service["ports"])
    }


def test_it_is_the_topology_of_the_lab() -> None:
    assert SERVICES.keys() == {*NODES, "haproxy", "pgbouncer", "service"}
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["pgbouncer"]


def test_nothing_is_published_but_on_loopback() -> None:
    assert {host.rpartition(":")[0] for host in published()} == {"127.0.0.1"}
    assert len(published()) == sum(len(service["ports"]) for service in SERVICES.values())


@pytest.mark.parametrize("name", SERVICES.keys() - {"service"})
def test_an_image_from_elsewhere_is_pinned_and_says_how_it_is(name: str) -> None:
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+[\w.-]*", SERVICES[name]["image"])
    health = SERVICES[name]["healthcheck"]
    assert health["test"][0] == "CMD"
    assert health["retries"] > 1


def test_the_service_is_the_image_of_the_guide() -> None:
    service = SERVICES["service"]
    build = service["build"]
    context = (FILE.parent / build["context"]).resolve()
    assert context == ROOT
    assert re.search(rf"^FROM \S+ AS {build['target']}$", (context / build["dockerfile"]).read_text(), re.MULTILINE)
    assert f"--target {build['target']} -t {service['image']}" in (ROOT / "docs/guides/containers.md").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_everything_that_is_mounted_is_there_and_nothing_can_write_to_it(name: str) -> None:
    for mount in SERVICES[name].get("volumes", ()):
        source, target, *mode = mount.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert (FILE.parent / source).is_file()
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]


def test_what_waits_waits_for_what_says_how_it_is() -> None:
    waits = [waited for service in SERVICES.values() for waited in service.get("depends_on", {}).items()]
    assert {name for name, _ in waits} == {*NODES, "haproxy"}
    assert {condition["condition"] for _, condition in waits} == {"service_healthy"}


def test_either_node_is_the_others_peer() -> None:
    environments = {name: SERVICES[name]["environment"] for name in NODES}
    assert {name: (of["NODE"], of["PEER"]) for name, of in environments.items()} == {
        "db1": ("db1", "db2"),
        "db2": ("db2", "db1"),
    }
    assert {of["FIRST"] for of in environments.values()} == {"db1"}
    fences = [mount for name in NODES for mount in SERVICES[name]["volumes"] if mount.startswith("fence:")]
    assert fences == ["fence:/fence"] * 2


@pytest.mark.parametrize("folder", ["docker", "local_or_ide"])
class TestTheEnvFile:
    def test_its_variables_are_settings_with_good_values(self, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
        values = variables(folder)
        classes = (UvicornServerConfig, Settings, PiccoloDBConfig, SequencerSettings)
        assert values.keys() <= {name for settings in classes for name in variables_of(settings)}
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        for settings in classes:
            settings()

    def test_the_straight_way_names_both_nodes_and_leads_to_the_one_that_takes_writes(self, folder: str) -> None:
        parts = psycopg.conninfo.conninfo_to_dict(variables(folder)["API_SERVER_DATABASE_URL"])
        assert str(parts["host"]).count(",") == 1
        assert parts["target_session_attrs"] == "read-write"
        assert parts["dbname"] == variables(folder)["PICCOLO_DB_DATABASE"]


def test_the_service_finds_its_database_in_the_network_of_the_file() -> None:
    environment = (FILE.parent / SERVICES["service"]["env_file"]).resolve()
    assert environment == CONFIGURATION / "docker" / "local_development.multi_db.env"
    values = variables("docker")
    assert values["PICCOLO_DB_HOST"] in SERVICES
    assert values["PICCOLO_DB_PORT"] in set(published().values())
    nodes = SERVICES["db1"]["environment"]
    assert (values["PICCOLO_DB_PASSWORD"], values["PICCOLO_DB_DATABASE"]) == (nodes["PASSWORD"], nodes["DATABASE"])


def test_the_pooler_leads_to_haproxy_with_the_same_login() -> None:
    configuration = (ROOT / "deploy/pgbouncer/pgbouncer.ini").read_text()
    assert "* = host=haproxy port=5432\n" in configuration
    assert "pool_mode = transaction\n" in configuration
    mounted = [mount.split(":")[1] for mount in SERVICES["pgbouncer"]["volumes"]]
    assert re.search(r"^auth_file = (.*)$", configuration, re.MULTILINE)[1] in mounted  # type: ignore[index] # it is there
    assert (ROOT / "deploy/pgbouncer/users.txt").read_text() == '"postgres" "postgres"\n'


def test_haproxy_accepts_its_configuration() -> None:
    done = subprocess.run(
        [haproxy_binary(), "-c", "-f", HAPROXY_CONFIGURATION], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Configuration file is valid" in done.stdout + done.stderr
    assert "WARNING" not in done.stderr


def variables(folder: str) -> dict[str, str]:
    values = dotenv_values(CONFIGURATION / folder / "local_development.multi_db.env", interpolate=False)
    return {name: value for name, value in values.items() if value}


# What the containers run, from plain processes.


@dataclass
class Node:
    name: str
    peer: str
    port: int
    peer_port: int
    folder: Path
    process: BackgroundProcess | None = None

    def start(self) -> None:
        environment = {
            "PATH": f"{postgres_binaries()}:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C",
            "NODE": self.name,
            "PEER": self.peer,
            "FIRST": "db1",
            "PASSWORD": "postgres",
            "DATABASE": "throttling_sequencer",
            "PGDATA": str(self.folder / self.name / "data"),
            "PORT": str(self.port),
            "PEER_HOST": "127.0.0.1",
            "PEER_PORT": str(self.peer_port),
            "LISTEN": "127.0.0.1",
            "FENCE": str(self.folder / "fence"),
        }
        command: list[str | Path] = [*as_ordinary_user(), "/bin/sh", NODE_SCRIPT]
        self.process = BackgroundProcess.start(command, log=self.log, environment=environment)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def ask(self, query: LiteralString) -> object:
        return ask(self.port, query)

    @property
    def is_primary(self) -> bool:
        return bool(answer(self.port, "SELECT NOT pg_is_in_recovery()"))

    def is_followed(self) -> bool:
        return bool(answer(self.port, "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'quorum'"))


def ask(port: int, query: LiteralString) -> Any:
    url = f"postgresql://postgres:postgres@127.0.0.1:{port}/throttling_sequencer"
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        cursor = connection.execute(query)
        return None if cursor.description is None else cursor.fetchone()[0]  # type: ignore[index] # of one row


def answer(port: int, query: LiteralString) -> Any:
    """Return the answer, None where there is none just now."""
    try:
        return ask(port, query)
    except psycopg.OperationalError:
        return None


@contextmanager
def haproxy(folder: Path, ports: Mapping[str, int]) -> Iterator[None]:
    text = HAPROXY_CONFIGURATION.read_text()
    for name, port in ports.items():
        text, found = re.subn(rf"{name}\b", f"127.0.0.1:{port}", text)
        assert found
    (folder / "haproxy.cfg").write_text(text)
    log = folder / "haproxy.log"
    process = BackgroundProcess.start([haproxy_binary(), "-db", "-f", folder / "haproxy.cfg"], log=log)
    try:
        yield
    finally:
        process.kill()


@pytest.fixture
def nodes(tmp_path: Path, unused_tcp_port_factory: Callable[[], int]) -> Iterator[tuple[Node, Node]]:
    first, second = unused_tcp_port_factory(), unused_tcp_port_factory()
    with ExitStack() as stack:
        both = Node("db1", "db2", first, second, tmp_path), Node("db2", "db1", second, first, tmp_path)
        for folder in ("fence", "db1", "db2"):
            (tmp_path / folder).mkdir()
            if changes_user():
                shutil.chown(tmp_path / folder, "nobody", "nogroup")
        for node in both:
            stack.callback(node.kill)
            node.start()
        yield both


def test_beside_the_data_the_server_may_write_too(tmp_path: Path) -> None:
    """The container's root makes the folders of an image that has only the one above them."""
    programs, data = tmp_path / "bin", tmp_path / "volume" / "18" / "docker"
    programs.mkdir()
    data.parents[1].mkdir()
    for name, does in {"id": "echo 0", "chown": f'echo "$@" >>"{tmp_path}/given"', "gosu": "exit 42"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    words = dict.fromkeys(("NODE", "PEER", "FIRST", "PASSWORD", "DATABASE"), "x")
    environment = {**words, "PGDATA": str(data), "FENCE": str(tmp_path), "PATH": f"{programs}:/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", NODE_SCRIPT], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (42, b"")
    given = (tmp_path / "given").read_text().split()
    assert {str(data.parent), str(data), str(tmp_path)} <= {*given}
    assert data.is_dir()


@pytest.mark.slow
def test_who_is_named_and_was_not_promoted_becomes_the_primary(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    db1, db2 = nodes
    wait_until(db1.is_followed, 30, "db2 follows")
    db1.ask("CREATE TABLE kept (number int)")
    db1.kill()
    (tmp_path / "fence" / "writer").write_text("db2\n")
    db2.kill()
    db1.start()
    db2.start()
    wait_until(lambda: db2.is_primary, 30, "db2 is the primary")
    wait_until(db2.is_followed, 30, "db1 follows")
    assert not db1.is_primary
    db2.ask("INSERT INTO kept VALUES (1)")
    assert db2.ask("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)") == "00000002"


@pytest.mark.slow
def test_the_nodes_are_one_cluster_whatever_comes_and_haproxy_knows_the_writer(
    nodes: tuple[Node, Node], tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    db1, db2 = nodes
    writer = unused_tcp_port_factory()
    ports = {
        "db1:5432": db1.port,
        "db2:5432": db2.port,
        "(?<=bind ):5432": writer,
        "(?<=bind ):5433": unused_tcp_port_factory(),
        "(?<=bind ):8404": unused_tcp_port_factory(),
        "127.0.0.1:9999": unused_tcp_port_factory(),
    }

    def leads_to(node: Node) -> bool:
        return bool(answer(writer, "SELECT inet_server_port()") == node.port)

    with haproxy(tmp_path, ports):
        wait_until(db1.is_followed, 30, f"db2 follows: {db2.log.read_text()}")
        wait_until(lambda: leads_to(db1), 10, "HAProxy leads to db1")
        ask(writer, "CREATE TABLE kept (number int)")
        # The old primary dies, the other one is named and promoted: what multi_db_flip.sh does.
        db1.kill()
        (tmp_path / "fence" / "writer").write_text("db2\n")
        db2.ask("ALTER SYSTEM SET synchronous_standby_names = ''")
        db2.ask("SELECT pg_reload_conf()")
        db2.ask("SELECT pg_promote(true, 60)")
        wait_until(lambda: leads_to(db2), 10, "HAProxy leads to db2")
        ask(writer, "INSERT INTO kept VALUES (1)")
        # It was a primary, and comes back as a standby.
        db1.start()
        wait_until(db2.is_followed, 30, "db1 follows")
        assert not db1.is_primary
        assert "is copied from" not in db1.log.read_text()
        assert db1.ask("SELECT count(*) FROM kept") == 1
        # Both die, and come back in the order in which the old primary would be first.
        db1.kill()
        db2.kill()
        assert answer(writer, "SELECT 1") is None
        db1.start()
        db2.start()
        wait_until(lambda: leads_to(db2), 20, "HAProxy leads to db2 again")
        wait_until(db2.is_followed, 30, "db1 follows again")
        assert not db1.is_primary
        ask(writer, "INSERT INTO kept VALUES (2)")
