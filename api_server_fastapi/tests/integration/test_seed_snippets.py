"""What the foundation's first document shows works as it is shown."""

import sys
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from api_server.database.alembic_manager import AlembicManager
from api_server.event_bus import EventBus
from api_server.exception_handlers import register_exception_handlers
from api_server.exceptions import ResourceNotFoundError, VersionConflictError
from api_server.local.postgres import PostgresAddress
from api_server.models.base_model import _utcnow, _uuid7
from api_server.settings import get_settings
from api_server.testing import Serve, clean_environment
from fastapi import FastAPI

LOCK = """
from api_server.database import advisory_lock, AdvisoryLock

with advisory_lock(AdvisoryLock.MIGRATION):
    # Only one process enters here across all instances
    perform_migration()
"""
EVENTS = """
# Define event
class OrderCreated(BaseEvent):
    order_id: str

# Register handler (function or class)
event_bus.register(OrderCreated, handle_order_created)

# Emit
await event_bus.emit(OrderCreated(order_id="123"))
"""


@pytest.fixture
def own_database(database: PostgresAddress, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresAddress]:
    monkeypatch.setenv("API_SERVER_DATABASE_URL", database.url)
    get_settings.cache_clear()
    yield database
    get_settings.cache_clear()


def test_only_one_process_enters_a_lock(own_database: PostgresAddress) -> None:
    entered: list[tuple[Any, ...]] = []

    def perform_migration() -> None:
        with psycopg.connect(own_database.url) as connection:
            query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            entered.extend(connection.execute(query).fetchall())

    exec(LOCK, {"perform_migration": perform_migration})
    assert entered == [(1,)]


def test_a_manager_migrates_and_tells_how_it_stands(own_database: PostgresAddress) -> None:
    manager = AlembicManager()
    before = manager.validate_schema_state()
    manager.perform_migration()
    after = manager.validate_schema_state()
    assert not before.applied
    assert not after.pending
    assert before.pending == after.applied != ()


async def test_an_event_reaches_its_handler() -> None:
    handled: list[str] = []

    async def handle_order_created(event: Any) -> None:
        handled.append(event.order_id)

    lines = "".join(f"    {line}\n" for line in EVENTS.splitlines())
    async with EventBus() as event_bus:
        namespace = {"event_bus": event_bus, "handle_order_created": handle_order_created}
        exec(f"from api_server.event_bus import BaseEvent\nasync def snippet():\n{lines}", namespace)
        await namespace["snippet"]()  # type: ignore[operator]  # made by exec
    assert handled == ["123"]


async def test_errors_become_answers_by_themselves(serve: Serve) -> None:
    app = FastAPI()
    register_exception_handlers(app)

    @app.get("/missing")
    async def missing() -> None:
        raise ResourceNotFoundError("order", "123")

    @app.get("/conflict")
    async def conflict() -> None:
        raise VersionConflictError(3, 4)

    async with serve(app, lifespan="off") as client:
        answers = [(await client.get(path)).json() for path in ("/missing", "/conflict")]
    assert [(answer["status"], answer["code"], answer["detail"]) for answer in answers] == [
        (404, "NOT_FOUND", "there is no order 123"),
        (409, "VERSION_CONFLICT", "expected version 3, found 4: read it again"),
    ]


def test_keys_sort_by_time_and_times_know_their_zone() -> None:
    keys = [_uuid7() for _ in range(100)]
    assert keys == sorted(keys)
    assert {key.version for key in keys} == {7}
    assert all(isinstance(key, UUID) for key in keys)
    assert _utcnow().utcoffset() is not None


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python has version 7 itself")
def test_without_any_version_7_the_keys_are_random_ones() -> None:
    code = """
import sys
sys.modules["uuid_utils.compat"] = None
from api_server.identifiers import uuid7
print(uuid7().version)
"""
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean_environment()
    )
    assert done.stdout == "4\n"
