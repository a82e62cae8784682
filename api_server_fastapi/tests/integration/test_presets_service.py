"""The service of presets on a real database: who may do what, and what others are told."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, ClassVar
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
    ResourceNotFoundError,
    VersionConflictError,
)
from api_server.identity import Principal
from api_server.local.postgres import PostgresAddress
from api_server.models.api_model import PresetRead
from api_server.models.db_model import Preset
from api_server.services.preset_service import DEFAULTS_SCOPE, PresetPage, PresetService
from preset_faces import KINDS, forget_presets, preset_database
from pydantic import BaseModel, ValidationError, model_validator
from sqlalchemy import text
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


class Watched(BaseModel):
    """A document during whose check something is done."""

    size: int = 0
    meanwhile: ClassVar[Callable[[], None]] = staticmethod(lambda: None)

    @model_validator(mode="after")
    def _do(self) -> "Watched":
        type(self).meanwhile()
        return self


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Say what is done while a document of the kind `watched` is checked."""

    def do(action: Callable[[], None]) -> None:
        monkeypatch.setattr(Watched, "meanwhile", staticmethod(action))

    return do


@pytest.fixture
def watched(publisher: RecordingPublisher) -> PresetService:
    return PresetService({**KINDS, "watched": Watched}, publisher)


async def written_by_hand(statement: str, **values: Any) -> None:
    async with borrow_db_session() as session:
        await (await session.connection()).execute(text(statement), values)
        await session.commit()


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


async def test_what_is_written_is_what_was_checked(
    watched: PresetService, emptied: PostgresAddress, meanwhile: Callable[[Callable[[], None]], None]
) -> None:
    """Somebody makes a preset the default of its kind while its owner, who may not, replaces it."""
    preset = await watched.create(ALICE, "watched", "own", {})

    def rename() -> None:
        with psycopg.connect(emptied.url, autocommit=True) as connection:
            connection.execute("UPDATE api_server.presets SET name = 'default', version = version + 1")

    meanwhile(rename)
    for version, found in ((2, 1), (1, 2)):
        with pytest.raises(VersionConflictError) as conflict:
            await watched.replace(ALICE, preset.id, version, "own", {"size": 1})
        assert (conflict.value.expected_version, conflict.value.current_version) == (version, found)
    assert (await watched.get(ALICE, preset.id)).document == {"size": 0}
    with pytest.raises(VersionConflictError):
        await watched.delete(ALICE, preset.id, 3)
    with pytest.raises(NotAllowedError):
        await watched.delete(ALICE, preset.id, 2)


async def test_what_goes_while_it_is_checked_is_not_found(
    watched: PresetService, emptied: PostgresAddress, meanwhile: Callable[[Callable[[], None]], None]
) -> None:
    preset = await watched.create(ALICE, "watched", "own", {})

    def remove() -> None:
        with psycopg.connect(emptied.url, autocommit=True) as connection:
            connection.execute("DELETE FROM api_server.presets")

    meanwhile(remove)
    with pytest.raises(ResourceNotFoundError):
        await watched.replace(ALICE, preset.id, 1, "own", {})


async def test_no_transaction_is_open_while_a_document_is_checked(
    watched: PresetService, emptied: PostgresAddress, meanwhile: Callable[[Callable[[], None]], None]
) -> None:
    preset = await watched.create(ALICE, "watched", "own", {})
    seen: list[tuple[int]] = []

    def count() -> None:
        with psycopg.connect(emptied.url) as connection:
            seen.extend(
                connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND backend_type = 'client backend' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
                )
            )

    meanwhile(count)
    await watched.replace(ALICE, preset.id, 1, "own", {})
    assert seen == [(0,)]


async def test_two_documents_are_checked_at_once(
    watched: PresetService, meanwhile: Callable[[Callable[[], None]], None]
) -> None:
    """That nobody waits for a check any more does not make room for another, which would wait for a thread."""
    begun: list[int] = []
    two_began, may_end = threading.Event(), threading.Event()

    def wait() -> None:
        begun.append(1)
        if len(begun) >= 2:
            two_began.set()
        may_end.wait(5)

    meanwhile(wait)
    asking = [asyncio.create_task(watched.create(ALICE, "watched", f"{number}", {})) for number in range(6)]
    try:
        assert await asyncio.to_thread(two_began.wait, 5)
        for task in asking[:2]:
            task.cancel()
        await asyncio.wait(asking[:2])
        await asyncio.sleep(0)
        third_began, _ = await asyncio.wait(asking[2:], timeout=0.1)
        assert (len(begun), third_began) == (2, set())
    finally:
        may_end.set()
    names = {preset.name for preset in await asyncio.gather(*asking[2:])}
    assert (names, len(begun)) == ({"2", "3", "4", "5"}, 6)


async def test_only_who_created_a_default_renames_it(presets: PresetService) -> None:
    """Another name would be one of its owner's, and the answer would tell which of them are taken."""
    owner = Principal("alice", ADMIN.scopes)
    default = await presets.create(owner, "theme", "default", {})
    await presets.create(owner, "theme", "taken", {})
    for name in ("taken", "free"):
        with pytest.raises(InvalidValueError) as refused:
            await presets.replace(ADMIN, default.id, 1, name, {})
        assert str(refused.value) == "name should be default: only who created the preset renames it"
    assert (await presets.replace(owner, default.id, 1, "free", {})).version == 2
    assert (await presets.replace(owner, default.id, 2, "default", {})).version == 3


async def test_a_version_beyond_the_last_is_refused(presets: PresetService) -> None:
    last = 2**31 - 1
    preset = await presets.create(ALICE, "theme", "dark", {})
    await written_by_hand("UPDATE api_server.presets SET version = :last", last=last)
    with pytest.raises(InvalidValueError, match="version should be below 2147483647"):
        await presets.replace(ALICE, preset.id, last, "dark", {})
    await presets.delete(ALICE, preset.id, last)


@pytest.mark.parametrize("user_id", ["x" * 256, "a\x00b", "\ud800"])
async def test_a_user_whom_the_table_cannot_keep_is_refused(presets: PresetService, user_id: str) -> None:
    odd = Principal(user_id, frozenset())
    for answer in (
        presets.create(odd, "theme", "dark", {}),
        presets.get(odd, UUID(int=1)),
        presets.page(odd, "theme"),
    ):
        with pytest.raises(InvalidValueError, match="owner_id should be at most 255 characters"):
            await answer


async def test_a_page_ends_where_its_documents_are_a_mebibyte(presets: PresetService) -> None:
    """PostgreSQL keeps them compressed; what counts is what they are when they are read."""
    sizes = [600_000, 300_000, 300_000, 1_040_000, 10, 10]
    for number, size in enumerate(sizes):
        await presets.create(ALICE, "note", f"{number}", {"is": "x" * size})
    pages, cursor, has_next = [], None, True
    while has_next:
        page = await presets.page(ALICE, "note", 100, cursor)
        pages.append([preset.name for preset in page.items])
        cursor, has_next = page.end_cursor, page.has_next
    assert pages == [["0", "1"], ["2"], ["3", "4", "5"]]
    two = await presets.page(ALICE, "note", 2, (await presets.page(ALICE, "note", 4)).end_cursor)
    assert two.items
    largest = await written_larger(presets)
    assert [preset.name for preset in largest.items] == ["0"]
    assert largest.has_next


async def written_larger(presets: PresetService) -> PresetPage:
    """Make every document larger than a page, and return the first page."""
    await written_by_hand(
        "UPDATE api_server.presets SET document = jsonb_build_object('is', repeat('x', :size))", size=2**20 + 10
    )
    return await presets.page(ALICE, "note", 100)


async def test_a_stored_default_that_is_no_object_is_none(presets: PresetService, lenient_table: None) -> None:
    await presets.create(ADMIN, "theme", "default", {})
    for document in ("[1]", "7", "null"):
        await written_by_hand("UPDATE api_server.presets SET document = cast(:document AS jsonb)", document=document)
        assert await presets.default_document("theme") is None


async def test_what_an_earlier_rule_let_be_a_name_is_read(presets: PresetService) -> None:
    preset = await presets.create(ALICE, "theme", "dark", {})
    await written_by_hand("UPDATE api_server.presets SET name = :name", name="a\u200bb")
    assert PresetRead.of(await presets.get(ALICE, preset.id)).name == "a\u200bb"


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


class Names(BaseModel):
    """Of which very much can be wrong."""

    names: list[int | float | bool | None]


async def test_very_many_wrong_values_hold_up_nobody(publisher: RecordingPublisher) -> None:
    presets = PresetService({"names": Names}, publisher)
    for number, rule in ((29_000, "document breaks rules in 87000 places"), (250_000, "at most 30000 values")):
        with pytest.raises(InvalidFieldsError, match=rule):
            await presets.create(ALICE, "names", "wrong", {"names": ["x"] * number})


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
def lenient_table(emptied: PostgresAddress) -> Iterator[None]:
    """Let the table hold what is no object, as before it had a rule against that."""
    rule = "ck_presets_document_is_object"
    with closing(psycopg.connect(emptied.url, autocommit=True)) as connection:
        connection.execute(f"ALTER TABLE api_server.presets DROP CONSTRAINT IF EXISTS {rule}")
        yield
        connection.execute("TRUNCATE api_server.presets")
        connection.execute(
            f"ALTER TABLE api_server.presets ADD CONSTRAINT {rule} CHECK (jsonb_typeof(document) = 'object')"
        )


@pytest.fixture
def broken_table(emptied: PostgresAddress) -> Iterator[None]:
    with psycopg.connect(emptied.url, autocommit=True) as connection:
        connection.execute("ALTER TABLE api_server.presets ADD CONSTRAINT even_names CHECK (name <> 'odd')")
        yield
        connection.execute("ALTER TABLE api_server.presets DROP CONSTRAINT even_names")
