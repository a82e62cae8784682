"""Migrations at the start: now, or when the database is there; what cannot succeed stops the start or is told."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from api_server.database.advisory_lock import AdvisoryLockError, PoolerRefusedError
from api_server.database.migration_backend import MigrationBackend, MigrationError
from api_server.exceptions import StartError
from structlog.testing import capture_logs
from throttling_sequencer.di import migrations
from throttling_sequencer.di.migrations import migrating
from throttling_sequencer.domain.errors import StorageUnavailableError


def failed(cause: Exception) -> MigrationError:
    error = MigrationError("piccolo", cause)
    error.__cause__ = cause
    return error


AWAY = (failed(StorageUnavailableError("refused")), AdvisoryLockError("no answer"))
BROKEN = (failed(ValueError("no such column")), PoolerRefusedError("it is a pooler"))


class Upgrades:
    """Stands for `upgrade_all`: fails in this order, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self, backends: Sequence[MigrationBackend], url: str, *, lock_timeout: float) -> dict[str, Any]:
        assert lock_timeout <= 5
        self.calls += 1
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        return {}


@pytest.fixture(autouse=True)
def without_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "_RETRY_S", 0.01)


async def until(upgrades: Upgrades, calls: int) -> None:
    async with asyncio.timeout(2):
        while upgrades.calls < calls:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)  # time for one more, which there shall not be


async def test_what_is_pending_is_applied_before_the_service_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "upgrade_all", upgrades := Upgrades())
    async with migrating((), "url"):
        assert upgrades.calls == 1
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("error", AWAY, ids=repr)
async def test_a_database_that_is_away_is_told_of_once_and_asked_until_it_is_there(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(migrations, "upgrade_all", upgrades := Upgrades(error, error, error))
    with capture_logs() as lines:
        async with migrating((), "url"):
            assert upgrades.calls == 1
            await until(upgrades, 4)
            assert upgrades.calls == 4
    assert [line["event"] for line in lines] == ["migrations wait for the database"]
    assert lines[0]["reason"] in ("refused", "no answer")


@pytest.mark.parametrize("error", BROKEN, ids=repr)
async def test_what_trying_again_does_not_mend_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(migrations, "upgrade_all", Upgrades(error))
    with pytest.raises(StartError, match=r"no such column|it is a pooler"):
        async with migrating((), "url"):
            raise AssertionError("it served")


@pytest.mark.parametrize("error", BROKEN, ids=repr)
async def test_after_the_start_it_is_told_and_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(migrations, "upgrade_all", upgrades := Upgrades(AWAY[0], error))
    with capture_logs() as lines:
        async with migrating((), "url"):
            await until(upgrades, 2)
            assert upgrades.calls == 2
    assert [line["event"] for line in lines] == ["migrations wait for the database", "migrations failed"]


async def test_a_service_that_stops_waits_for_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "upgrade_all", Upgrades(*[AWAY[0]] * 1000))
    async with migrating((), "url"):
        assert len(asyncio.all_tasks()) == 2
    assert asyncio.all_tasks() == {asyncio.current_task()}
