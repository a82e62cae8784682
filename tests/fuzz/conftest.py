"""A service to be asked at random."""

import json
from collections.abc import Callable, Iterator

import pytest
from api_server.local.postgres import PostgresAddress
from api_server.testing import fresh_database
from piccolo_database import piccolo_environment
from sequencer_process import Sequencer, running_sequencer


@pytest.fixture(scope="session")
def running(
    postgres: PostgresAddress, tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Callable[[], int]
) -> Iterator[Sequencer]:
    with (
        fresh_database(postgres) as database,
        running_sequencer(
            tmp_path_factory.mktemp("sequencer"),
            unused_tcp_port_factory(),
            **piccolo_environment(database),
            PICCOLO_DB_RUN_MIGRATIONS="true",
            SEQUENCER_TIMEOUT_MS="5",
            SEQUENCER_LANE_WORKERS="1",
        ) as sequencer,
    ):
        yield sequencer


@pytest.fixture
def fuzzed(running: Sequencer) -> Iterator[Sequencer]:
    """Give the service, and see afterwards that it answers and has nothing to complain of."""
    before = len(running.service.log)
    yield running
    assert running.client.get("/livez").status_code == 200
    new = running.service.log[before:]
    lines = [json.loads(line) for line in new.splitlines() if line.startswith("{")]
    assert [line for line in lines if line["level"] in ("error", "critical")] == []
    assert "Traceback" not in new
