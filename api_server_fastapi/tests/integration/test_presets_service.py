"""The service of presets on a real database: who may do what, and what others are told."""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
import pytest
from api_server.database.connection import borrow_db_session, dispose_db, init_db
from api_server.event_bus import BaseEvent
from api_server.events import PresetChanged
from api_server.exceptions import (
    DatabaseUnavailableError,
    InvalidFieldsError,
    InvalidValueError,
    NotAllowedError,
    ResourceExistsError,
    VersionConflictError,
)
from api_server.identity import Principal
from api_server.local.postgres import PostgresAddress
from api_server.models.db_model import Preset
from api_server.services.preset_service import DEFAULTS_SCOPE, PresetService
from preset_faces import KINDS, forget_presets, preset_database
from pydantic import BaseModel, ValidationError
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

ALICE = Principal("alice", frozenset())
ADMIN = Principal("admin", frozenset({DEFAULTS_SCOPE}))


@dataclass
class RecordingPublisher:
    """Notes what is published in a transaction, and what of it was committed; refuses to where it is told so."""

    published: list[BaseEvent] = field(default_factory=list)
    committed: list[BaseEvent] = field(default_factory=list)
    refuses: bool = False

    async def publish(self, session: AsyncSession, event: BaseEvent) -> None:
        assert session.in_transaction()
        self.published.append(event)
        if self.refuses:
            raise ConnectionError

    async def commit(self, session: AsyncSession) -> None:
        await session.commit()
        self.committed, self.published = [*self.committed, *self.published], []


@pytest.fixture(scope="module")
def kept(postgres: PostgresAddress) -> Iterator[PostgresAddress]:
    with preset_database(postgres) as address:
        yield address


@pytest.fixture
def emptied(kept: PostgresAddress) -> PostgresAddress:
    forget_presets(kept)
    return kept


@pytest.fixture
async def publisher(emptied: PostgresAddress) -> AsyncIterator[RecordingPublisher]:
    init_db(emptied.url)
    yield RecordingPublisher()
    await dispose_db()


@pytest.fixture
def presets(publisher: RecordingPublisher) -> PresetService:
    return PresetService(KINDS, publisher)


async def number_of_presets() -> int:
    async with borrow_db_session() as session:
        return (await session.exec(select(func.count(col(Preset.id))))).one()


async def test_every_change_is_published_in_its_transaction(
    presets: PresetService, publisher: RecordingPublisher
) -> None:
    preset = await presets.create(ALICE, "theme", "dark", {})
    changed = PresetChanged(preset_id=preset.id, kind="theme")
    assert publisher.committed == [changed]
    await presets.replace(ALICE, preset.id, 1, "darker", {})
    await presets.delete(ALICE, preset.id, 2)
    assert publisher.committed == [changed] * 3


async def test_what_is_not_published_is_not_done(presets: PresetService, publisher: RecordingPublisher) -> None:
    preset = await presets.create(ALICE, "theme", "dark", {})
    publisher.refuses = True
    with pytest.raises(ConnectionError):
        await presets.create(ALICE, "theme", "light", {})
    with pytest.raises(ConnectionError):
        await presets.replace(ALICE, preset.id, 1, "darker", {})
    with pytest.raises(ConnectionError):
        await presets.delete(ALICE, preset.id, 1)
    assert await number_of_presets() == 1
    assert await presets.get(ALICE, preset.id) == preset


async def test_what_is_refused_is_not_published(presets: PresetService, publisher: RecordingPublisher) -> None:
    preset = await presets.create(ALICE, "theme", "dark", {})
    publisher.committed.clear()
    with pytest.raises(ResourceExistsError):
        await presets.create(ALICE, "theme", "dark", {})
    with pytest.raises(VersionConflictError) as conflict:
        await presets.replace(ALICE, preset.id, 7, "darker", {})
    with pytest.raises(VersionConflictError):
        await presets.delete(ALICE, preset.id, 7)
    assert (conflict.value.expected_version, conflict.value.current_version) == (7, 1)
    assert (publisher.published, publisher.committed) == ([], [])


async def test_the_process_itself_reads_the_default_of_a_kind(presets: PresetService) -> None:
    await presets.create(ALICE, "theme", "dark", {"contrast": 1})
    assert await presets.default_document("theme") is None
    default = await presets.create(ADMIN, "theme", "default", {"contrast": 2})
    document = await presets.default_document("theme")
    assert document is not None
    assert document["contrast"] == 2
    assert await presets.default_document("note") is None
    await presets.delete(ADMIN, default.id, 1)
    assert await presets.default_document("theme") is None
    with pytest.raises(InvalidValueError):
        await presets.default_document("song")


async def test_a_default_needs_its_scope_whoever_created_it(presets: PresetService) -> None:
    with pytest.raises(NotAllowedError) as refused:
        await presets.create(ALICE, "theme", "default", {})
    assert refused.value.scope == "presets:default"
    former = Principal("alice", frozenset({DEFAULTS_SCOPE}))
    default = await presets.create(former, "theme", "default", {})
    with pytest.raises(NotAllowedError):
        await presets.replace(ALICE, default.id, 1, "default", {})
    with pytest.raises(NotAllowedError):
        await presets.delete(ALICE, default.id, 1)
    assert (await presets.replace(ADMIN, default.id, 1, "default", {})).version == 2


async def test_kinds_that_the_service_no_longer_has_are_not_found(
    presets: PresetService, publisher: RecordingPublisher
) -> None:
    preset = await presets.create(ALICE, "theme", "dark", {})
    without: Mapping[str, type[BaseModel]] = {"note": KINDS["note"]}
    with pytest.raises(Exception, match=f"there is no preset {preset.id}"):
        await PresetService(without, publisher).get(ALICE, preset.id)


def test_a_kind_has_a_name_that_fits_the_table() -> None:
    with pytest.raises(ValidationError):
        PresetService({"My Theme": KINDS["theme"]}, RecordingPublisher())


async def test_what_is_large_and_wrong_holds_up_nobody(presets: PresetService) -> None:
    """The guard of the event loop watches."""
    for document in (
        {"is": [float("nan"), *[1] * 300_000]},
        {"is": [1] * 300_000, "weight": "x"},
        {"is": [1] * 400_000},
    ):
        with pytest.raises(InvalidFieldsError):
            await presets.create(ALICE, "note", "large", document)


async def test_a_mebibyte_is_kept_and_holds_up_nobody(presets: PresetService) -> None:
    document = {"is": ["x" * 99] * 10_000, "weight": 0.0}
    preset = await presets.create(ALICE, "note", "large", document)
    assert (await presets.get(ALICE, preset.id)).document == document


async def test_no_database_in_use_is_unavailable() -> None:
    with pytest.raises(DatabaseUnavailableError):
        await PresetService(KINDS, RecordingPublisher()).get(ALICE, UUID(int=0))


async def test_rows_that_break_other_rules_of_the_table_are_no_taken_names(
    presets: PresetService, emptied: PostgresAddress, broken_table: None
) -> None:
    with pytest.raises(Exception, match="even_names") as raised:
        await presets.create(ALICE, "theme", "odd", {})
    assert not isinstance(raised.value, ResourceExistsError)


@pytest.fixture
def broken_table(emptied: PostgresAddress) -> Iterator[None]:
    with psycopg.connect(emptied.url, autocommit=True) as connection:
        connection.execute("ALTER TABLE api_server.presets ADD CONSTRAINT even_names CHECK (name <> 'odd')")
        yield
        connection.execute("ALTER TABLE api_server.presets DROP CONSTRAINT even_names")
