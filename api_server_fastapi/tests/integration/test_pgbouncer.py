"""PgBouncer before the database: what a planned and an unplanned switch are made of."""

import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from api_server.exceptions import StartError
from api_server.local.pgbouncer import PgBouncer, pgbouncer_binary
from api_server.local.postgres import PostgresAddress
from api_server.testing import RunningCluster, fresh_database

# It is no part of what `make setup` installs.
pytestmark = pytest.mark.slow


@pytest.fixture
def pgbouncer(
    database: PostgresAddress, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> Iterator[PgBouncer]:
    pooler = PgBouncer(tmp_path / "a folder", unused_tcp_port_factory(), database)
    pooler.start()
    try:
        yield pooler
    finally:
        pooler.kill()


def client(pooler: PgBouncer) -> "closing[psycopg.Connection]":
    return closing(psycopg.connect(pooler.address.url, autocommit=True, connect_timeout=5, prepare_threshold=None))


def one(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def wait_until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)


def waiting(pooler: PgBouncer) -> int:
    return sum(int(row["cl_waiting"]) for row in pooler.command("SHOW POOLS"))


def test_clients_reach_the_database_by_its_own_login(pgbouncer: PgBouncer, database: PostgresAddress) -> None:
    with client(pgbouncer) as connection:
        assert one(connection, "SELECT current_database()") == database.database
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(replace(pgbouncer.address, password="another").url, connect_timeout=5)


def test_a_transaction_is_what_a_client_holds_a_server_for(pgbouncer: PgBouncer) -> None:
    with client(pgbouncer) as first, client(pgbouncer) as second:
        mine = one(first, "SELECT pg_backend_pid()")
        assert one(second, "SELECT pg_backend_pid()") == mine
        with first.transaction():
            first.execute("SELECT 1")
            assert one(second, "SELECT pg_backend_pid()") != one(first, "SELECT pg_backend_pid()")


def test_the_password_stands_where_nobody_else_reads_it(pgbouncer: PgBouncer, database: PostgresAddress) -> None:
    users = pgbouncer.folder / "pgbouncer.users"
    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    assert pgbouncer.pid is not None
    arguments = Path(f"/proc/{pgbouncer.pid}/cmdline").read_text()
    for text in (arguments, (pgbouncer.folder / "pgbouncer.ini").read_text(), pgbouncer.log.read_text()):
        assert database.password not in text


class TestASwitch:
    def test_a_client_waits_out_a_pause(self, pgbouncer: PgBouncer) -> None:
        answers: list[object] = []
        with client(pgbouncer) as connection:
            pgbouncer.command("PAUSE")
            waiter = threading.Thread(target=lambda: answers.append(one(connection, "SELECT 42")))
            waiter.start()
            wait_until(lambda: waiting(pgbouncer) == 1)
            assert answers == []
            pgbouncer.command("RESUME")
            waiter.join(10)
        assert answers == [42]

    def test_a_pause_waits_for_transactions_no_longer_than_it_may(self, pgbouncer: PgBouncer) -> None:
        with client(pgbouncer) as connection, connection.transaction():
            connection.execute("SELECT 1")
            started = time.monotonic()
            with pytest.raises(StartError, match=r"does not do 'PAUSE': no answer within 0\.2 s"):
                pgbouncer.command("PAUSE", timeout_s=0.2)
            assert time.monotonic() < started + 2

    def test_reconnect_leaves_running_transactions_alone(self, pgbouncer: PgBouncer) -> None:
        with client(pgbouncer) as connection:
            with connection.transaction():
                before = one(connection, "SELECT pg_backend_pid()")
                pgbouncer.command("RECONNECT")
                assert one(connection, "SELECT pg_backend_pid()") == before
            assert one(connection, "SELECT pg_backend_pid()") != before

    def test_kill_ends_clients_at_once(self, pgbouncer: PgBouncer, database: PostgresAddress) -> None:
        with client(pgbouncer) as connection:
            connection.execute("BEGIN")
            pgbouncer.command(f"KILL {database.database}")
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        pgbouncer.command(f"RESUME {database.database}")
        with client(pgbouncer) as connection:
            assert one(connection, "SELECT 1") == 1

    def test_it_leads_elsewhere_once_it_is_told_to(
        self, pgbouncer: PgBouncer, database: PostgresAddress, postgres_cluster: RunningCluster
    ) -> None:
        there = postgres_cluster.address
        with fresh_database(there) as other, client(pgbouncer) as connection:
            with psycopg.connect(other.url, autocommit=True) as made:
                made.execute(f'CREATE DATABASE "{database.database}"')
            assert one(connection, "SELECT inet_server_port()") == database.port
            pgbouncer.lead_to(other)
            assert one(connection, "SELECT inet_server_port()") == there.port
            with psycopg.connect(there.url, autocommit=True) as made:
                pgbouncer.command(f"KILL {database.database}")
                made.execute(f'DROP DATABASE "{database.database}" WITH (FORCE)')

    def test_a_server_that_comes_back_is_found_again_without_a_restart(
        self, postgres_cluster: RunningCluster, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
    ) -> None:
        pooler = PgBouncer(tmp_path, unused_tcp_port_factory(), postgres_cluster.address)
        pooler.start()
        try:
            with client(pooler) as connection:
                assert one(connection, "SELECT 1") == 1
            postgres_cluster.stop()
            started = time.monotonic()
            with pytest.raises(psycopg.OperationalError), client(pooler) as connection:
                connection.execute("SELECT 1")
            assert time.monotonic() < started + 7
            postgres_cluster.start()

            def answers() -> bool:
                try:
                    with client(pooler) as connection:
                        return one(connection, "SELECT 1") == 1
                except psycopg.OperationalError:
                    return False

            wait_until(answers)
        finally:
            pooler.kill()


class TestTheProcess:
    def test_after_a_kill_it_starts_again_on_the_same_port(self, pgbouncer: PgBouncer) -> None:
        with client(pgbouncer) as connection:
            assert one(connection, "SELECT 1") == 1
            assert pgbouncer.pid is not None
            os.kill(pgbouncer.pid, signal.SIGKILL)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        wait_until(lambda: not pgbouncer.is_running)
        pgbouncer.start()
        with client(pgbouncer) as connection:
            assert one(connection, "SELECT 1") == 1

    def test_another_process_finds_and_stops_it(self, pgbouncer: PgBouncer, database: PostgresAddress) -> None:
        same = PgBouncer(pgbouncer.folder, pgbouncer.port, database)
        pid = same.pid
        same.start()
        assert (same.pid, pid) == (pid, pgbouncer.pid)
        same.stop()
        assert not pgbouncer.is_running
        with pytest.raises(StartError, match=f"PgBouncer on 127.0.0.1:{pgbouncer.port} does not do 'SHOW POOLS'"):
            pgbouncer.command("SHOW POOLS")

    def test_it_starts_while_the_server_is_away(
        self, database: PostgresAddress, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
    ) -> None:
        pooler = PgBouncer(tmp_path, unused_tcp_port_factory(), replace(database, port=unused_tcp_port_factory()))
        pooler.start()
        try:
            assert pooler.is_running
        finally:
            pooler.stop()

    def test_a_port_that_is_taken_is_a_sentence(self, pgbouncer: PgBouncer, tmp_path: Path) -> None:
        second = PgBouncer(tmp_path / "second", pgbouncer.port, pgbouncer.server)
        try:
            with pytest.raises(StartError, match="PgBouncer does not start: ") as refused:
                second.start()
        finally:
            second.kill()
        assert str(second.log) in str(refused.value)
        assert not second.is_running

    def test_an_unknown_command_is_a_sentence(self, pgbouncer: PgBouncer) -> None:
        with pytest.raises(StartError, match="does not do 'NONSENSE': "):
            pgbouncer.command("NONSENSE")


class TestTheProgram:
    @pytest.fixture(autouse=True)
    def _asked_anew(self) -> Iterator[None]:
        pgbouncer_binary.cache_clear()
        yield
        pgbouncer_binary.cache_clear()

    def test_one_that_is_none_is_a_sentence(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PGBOUNCER_BIN", str(tmp_path))
        with pytest.raises(StartError, match="PGBOUNCER_BIN is"):
            pgbouncer_binary()

    def test_where_there_is_none_it_is_told_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.which", lambda name, path: None)
        with pytest.raises(StartError, match="`apt-get install pgbouncer`"):
            pgbouncer_binary()

    def test_the_systems_is_found(self) -> None:
        answer = subprocess.run([pgbouncer_binary(), "--version"], capture_output=True, text=True, check=True)
        assert answer.stdout.startswith("PgBouncer 1.")
