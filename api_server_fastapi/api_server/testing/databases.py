"""Real PostgreSQL for tests: a server for the session, a database for a test, a server that a test may stop."""

import hashlib
import inspect
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from api_server.local import postgres as embedded
from api_server.local.binaries import changes_user, postgres_binaries
from api_server.local.postgres import PostgresAddress, PostgresCluster
from api_server.testing.guards.locks import GUARD

# Durability of data that is thrown away costs time and gives nothing.
_THROWAWAY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True, slots=True)
class RunningCluster:
    """A PostgreSQL that a test may stop and start again, on the same port."""

    cluster: PostgresCluster
    address: PostgresAddress

    def stop(self) -> None:
        self.cluster.stop()

    def start(self) -> None:
        self.cluster.start()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[PostgresAddress]:
    """Give the address of a real PostgreSQL, shared by all tests of the session."""
    cluster = _new_cluster(tmp_path_factory.mktemp("postgres"), pytestconfig)
    with cluster.in_use():
        yield cluster.address("tests")


@pytest.fixture
def database(postgres: PostgresAddress, request: pytest.FixtureRequest) -> Iterator[PostgresAddress]:
    """Give the address of an empty database of the test's own."""
    with fresh_database(postgres) as address:
        yield address
        if (guard := request.node.stash.get(GUARD, None)) is not None:
            guard.look_before_it_is_dropped(address.database)


@pytest.fixture
def postgres_cluster(tmp_path: Path, unused_tcp_port: int, pytestconfig: pytest.Config) -> Iterator[RunningCluster]:
    """Give a real PostgreSQL of the test's own, which it may stop and start."""
    cluster = _new_cluster(tmp_path / "postgres", pytestconfig, unused_tcp_port)
    with cluster.in_use():
        yield RunningCluster(cluster, cluster.address("tests"))


@contextmanager
def fresh_database(server: PostgresAddress) -> Iterator[PostgresAddress]:
    """Make an empty database, and drop it at the end whoever is still connected."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield replace(server, database=name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _new_cluster(folder: Path, config: pytest.Config, port: int = 0) -> PostgresCluster:
    cluster = PostgresCluster(folder, _silent, _THROWAWAY, port=port)
    # The cache plugin may be switched off; and an account that is not this one could not use a copy made by this one.
    if (cache := getattr(config, "cache", None)) is not None and not changes_user():
        _copy_data(cache.mkdir("api_server_postgres"), cluster)
    return cluster


def _copy_data(kept: Path, cluster: PostgresCluster) -> None:
    """Give a cluster its data: a copy of what `initdb` made once, which takes a third of the time."""
    template = kept / _build()
    if not template.is_dir():
        with tempfile.TemporaryDirectory(dir=kept) as scratch:
            made = PostgresCluster(Path(scratch), _silent)
            made.prepare()
            try:
                made.data.rename(template)
            except OSError:
                # Another session was faster.
                if not template.is_dir():
                    raise
    cluster.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.copytree(template, cluster.data)


def _build() -> str:
    """Name the programs and the code that make a data folder: others would make another."""
    program = postgres_binaries() / "postgres"
    found = program.stat()
    maker = inspect.getsource(embedded)
    return hashlib.sha256(f"{program}{found.st_size}{found.st_mtime_ns}{maker}".encode()).hexdigest()[:16]


def _silent(text: str) -> None:
    """Say nothing."""
