"""Presets: documents that users keep under names, each of a kind that says what it may hold."""

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from unicodedata import category
from uuid import UUID

import structlog
from psycopg.errors import UniqueViolation
from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, Text, cast, delete, insert, literal, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import and_, col, func, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import Select

from api_server.database.connection import borrow_db_session
from api_server.event_bus import BaseEvent
from api_server.events import PresetChanged
from api_server.exceptions import (
    InvalidFieldsError,
    InvalidValueError,
    NotAllowedError,
    ResourceExistsError,
    ResourceNotFoundError,
    VersionConflictError,
)
from api_server.identity import ADMIN_SCOPE, Principal
from api_server.models.api_model import MOST_IN_PAGE, MOST_VERSIONS
from api_server.models.base_model import DEFAULT_NAME, Kind, Name, _utcnow
from api_server.models.db_model import Preset
from api_server.services.preset_documents import checked_document
from api_server.validation import FieldProblem, field_problems

DEFAULTS_SCOPE = "presets:default"

EVERYBODY = "*"
"""What stands for all owners, instead of the name of one."""

log = structlog.get_logger("api_server.presets")

_TIMEOUT_S = 5.0
_MOST_CHECKS = 2
_LARGEST_PAGE = 2**20
_LONGEST_OWNER = 255
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_KIND: TypeAdapter[str] = TypeAdapter(Kind)


class Publisher(Protocol):
    """Tells whoever handles an event, in this process and in others, once its transaction is committed."""

    async def publish(self, session: AsyncSession, event: BaseEvent) -> None:
        """Announce an event in the session's transaction."""
        ...

    async def commit(self, session: AsyncSession) -> None:
        """Commit, then tell this process's own handlers."""
        ...


@dataclass(frozen=True, slots=True)
class PresetPage:
    """Some presets, oldest first, and the cursor of the last one."""

    items: Sequence[Preset]
    end_cursor: str | None
    has_next: bool


@dataclass(frozen=True, slots=True)
class _Known:
    """What is looked at of a preset before it is changed."""

    id: UUID
    kind: str
    name: str
    version: int
    owner_id: str


class PresetService:
    """Keeps presets for their owners; `kinds` maps each kind to the model that its documents keep to.

    Somebody else's preset is not found. But the one of a kind that is named `default` is the whole service's: everybody
    sees it, and who has the scope `presets:default` changes it, whoever created it; but only who did renames it.
    Whoever has the scope `admin` reads everybody's presets, and changes none by that.

    Every method raises DatabaseUnavailableError where the database cannot be used just now.
    """

    def __init__(self, kinds: Mapping[str, type[BaseModel]], publisher: Publisher) -> None:
        for kind in kinds:
            _KIND.validate_python(kind)
        self._kinds = dict(kinds)
        self._publisher = publisher
        self._checks = asyncio.Semaphore(_MOST_CHECKS)

    async def create(self, principal: Principal, kind: str, name: str, document: object) -> Preset:
        """Keep a document, completed with the defaults of its model.

        Raises InvalidValueError, InvalidFieldsError, NotAllowedError, and ResourceExistsError for a name in use.
        """
        self._require_kind(kind)
        _require_scope(principal, name)
        owner_id = _owner_id(principal)
        kept = await self._checked(kind, name, document)
        async with borrow_db_session(timeout=_TIMEOUT_S) as session:
            preset = Preset(kind=kind, name=name, document=kept, owner_id=owner_id)
            async with _unique(name):
                values = preset.model_dump()
                created: Preset | None = await session.scalar(insert(Preset).values(values).returning(Preset))
            assert created is not None, "an INSERT returns its row or raises"
            await self._commit(session, created)
            return created

    async def get(self, principal: Principal, preset_id: UUID) -> Preset:
        """Return a preset. Raises ResourceNotFoundError."""
        async with borrow_db_session(timeout=_TIMEOUT_S) as session:
            statement = select(Preset).where(col(Preset.id) == preset_id, *self._readable(principal))
            preset = (await session.exec(statement)).one_or_none()
        if preset is None:
            raise ResourceNotFoundError("preset", preset_id)
        return preset

    async def page(
        self,
        principal: Principal,
        kind: str,
        first: int = 20,
        after: str | None = None,
        *,
        owner: str | None = None,
    ) -> PresetPage:
        """Return the `first` (1 to 100) oldest presets of a kind, those after a cursor of an earlier page.

        They are who asks' own and the default or, where `owner` names a user, those of that one alone; of everybody
        where it is `*`. Fewer, but at least one, where their documents would be more than a mebibyte of JSON. Pages
        that follow each other show each preset once that is there all the time, whatever else is written. Raises
        InvalidValueError, and NotAllowedError where others' presets are asked for without the scope `admin`.
        """
        self._require_kind(kind)
        if not 1 <= first <= MOST_IN_PAGE:
            raise InvalidValueError("first", f"should be a number from 1 to {MOST_IN_PAGE}")
        conditions = [col(Preset.kind) == kind, *self._listed(principal, owner)]
        if after is not None:
            conditions.append(col(Preset.id) > _id_of(after))
        statement = _fitting(conditions, first)
        async with borrow_db_session(timeout=_TIMEOUT_S) as session:
            rows = (await session.exec(statement)).all()
        items = [preset for preset, _ in rows]
        has_next = any(found > len(rows) for _, found in rows)
        return PresetPage(items, _cursor_of(items[-1].id) if items else None, has_next)

    async def replace(
        self,
        principal: Principal,
        preset_id: UUID,
        version: int,
        name: str,
        document: object,
        *,
        kind: str | None = None,
    ) -> Preset:
        """Give a preset another name and document, if it still has this version; a `kind` given should be its own.

        Raises ResourceNotFoundError, VersionConflictError, and what `create` raises.
        """
        _require_version(version)
        async with borrow_db_session(timeout=_TIMEOUT_S) as session:
            known = await self._known(session, principal, preset_id, version)
        if version == MOST_VERSIONS:
            raise InvalidValueError("version", f"should be below {MOST_VERSIONS}, which is how far changes are counted")
        if kind not in (None, known.kind):
            raise InvalidValueError("kind", f"should be {known.kind}, which cannot be changed")
        _require_scope(principal, known.name, name)
        if known.name == DEFAULT_NAME != name and known.owner_id != principal.user_id:
            # It would take one of the owner's names, and tell which are taken.
            raise InvalidValueError("name", f"should be {DEFAULT_NAME}: only who created the preset renames it")
        kept = await self._checked(known.kind, name, document)
        change = (
            update(Preset)
            .where(col(Preset.id) == preset_id, col(Preset.version) == version)
            .values(name=name, document=kept, version=col(Preset.version) + 1, updated_at=_utcnow())
            .returning(Preset)
        )
        # No connection is held while a document is checked. That the version is still the same says that all is.
        async with borrow_db_session(timeout=_TIMEOUT_S) as session:
            async with _unique(name):
                changed: Preset | None = await session.scalar(change)
            if changed is None:
                raise await self._conflict(session, principal, preset_id, version)
            await self._commit(session, changed)
            return changed

    async def delete(self, principal: Principal, preset_id: UUID, version: int) -> None:
        """Delete a preset, if it still has this version.

        Raises InvalidValueError, ResourceNotFoundError, NotAllowedError, VersionConflictError.
        """
        _require_version(version)
        async with borrow_db_session(timeout=_TIMEOUT_S) as session:
            known = await self._known(session, principal, preset_id, version)
            _require_scope(principal, known.name)
            removal = delete(Preset).where(col(Preset.id) == preset_id, col(Preset.version) == version)
            if await session.scalar(removal.returning(col(Preset.id))) is None:
                raise await self._conflict(session, principal, preset_id, version)
            await self._commit(session, known)

    async def default_document(self, kind: str) -> dict[str, Any] | None:
        """Return the document of the preset of this kind that is the whole service's; None where there is none."""
        self._require_kind(kind)
        statement = select(Preset.document).where(col(Preset.kind) == kind, _IS_DEFAULT)
        async with borrow_db_session(timeout=_TIMEOUT_S) as session:
            document = (await session.exec(statement)).one_or_none()
        # Whoever writes to the table by other ways may have put anything there.
        if document is None or isinstance(document, dict):
            return document
        log.warning("the default of a kind is no object", kind=kind)
        return None

    def _require_kind(self, kind: str) -> None:
        if kind not in self._kinds:
            raise InvalidValueError("kind", f"should be one of {', '.join(sorted(self._kinds))}")

    async def _checked(self, kind: str, name: str, document: object) -> dict[str, Any]:
        """Return the document as it is kept, or raise all that is wrong with it and its name."""
        problems = _problems_of_name(name)
        try:
            kept = await self._checked_aside(self._kinds[kind], document)
        except InvalidFieldsError as error:
            problems += error.problems
        if problems:
            raise InvalidFieldsError(problems)
        return kept

    async def _checked_aside(self, model: type[BaseModel], document: object) -> dict[str, Any]:
        """Check in a thread: a large document takes a tenth of a second, which others should not wait for."""
        await self._checks.acquire()
        checking = asyncio.get_running_loop().run_in_executor(None, checked_document, model, document)
        checking.add_done_callback(self._check_done)
        # Who no longer waits does not end the thread, whose place is taken until it is done.
        await asyncio.wait([checking])
        return checking.result()

    def _check_done(self, checking: asyncio.Future[dict[str, Any]]) -> None:
        self._checks.release()
        if not checking.cancelled():
            checking.exception()  # perhaps nobody else looks

    def _readable(self, principal: Principal) -> Sequence[ColumnElement[bool]]:
        """Return the conditions that hold for what somebody may read; `_visible` are those for what they may change."""
        return self._of_known_kinds() if principal.has_scope(ADMIN_SCOPE) else self._visible(principal)

    def _listed(self, principal: Principal, owner: str | None) -> Sequence[ColumnElement[bool]]:
        if owner is None:
            return self._visible(principal)
        if (owner == EVERYBODY or owner != principal.user_id) and not principal.has_scope(ADMIN_SCOPE):
            raise NotAllowedError(ADMIN_SCOPE)
        if owner == EVERYBODY:
            return self._of_known_kinds()
        return (*self._of_known_kinds(), col(Preset.owner_id) == _kept_name("owner", owner))

    def _visible(self, principal: Principal) -> Sequence[ColumnElement[bool]]:
        mine = col(Preset.owner_id) == _owner_id(principal)
        return or_(mine, _IS_DEFAULT), *self._of_known_kinds()

    def _of_known_kinds(self) -> Sequence[ColumnElement[bool]]:
        return (col(Preset.kind).in_(sorted(self._kinds)),)

    async def _known(self, session: AsyncSession, principal: Principal, preset_id: UUID, version: int) -> _Known:
        """Return what is known of this version of a preset, so that what is checked of it holds if it is written.

        Raises ResourceNotFoundError, VersionConflictError.
        """
        columns = col(Preset.kind), col(Preset.name), col(Preset.version), col(Preset.owner_id)
        statement = select(*columns).where(col(Preset.id) == preset_id, *self._visible(principal))
        row = (await session.exec(statement)).one_or_none()
        if row is None:
            raise ResourceNotFoundError("preset", preset_id)
        known = _Known(preset_id, *row)
        if known.version != version:
            raise VersionConflictError(version, known.version)
        return known

    async def _conflict(
        self, session: AsyncSession, principal: Principal, preset_id: UUID, version: int
    ) -> VersionConflictError:
        """Return why nothing was changed. Raises ResourceNotFoundError where there is no such preset any more."""
        statement = select(Preset.version).where(col(Preset.id) == preset_id, *self._visible(principal))
        current = (await session.exec(statement)).one_or_none()
        if current is None:
            raise ResourceNotFoundError("preset", preset_id)
        return VersionConflictError(version, current)

    async def _commit(self, session: AsyncSession, changed: Preset | _Known) -> None:
        await self._publisher.publish(session, PresetChanged(preset_id=changed.id, kind=changed.kind))
        await self._publisher.commit(session)


# Written into the statement, because an index holds just the rows for which it is true.
_IS_DEFAULT = col(Preset.name) == literal(DEFAULT_NAME, literal_execute=True)


@asynccontextmanager
async def _unique(name: str) -> AsyncIterator[None]:
    """Say that a name is taken where the table refuses what is written because of it."""
    try:
        yield
    except IntegrityError as error:
        if not isinstance(error.orig, UniqueViolation):
            raise
        raise ResourceExistsError("preset", name) from error


def _fitting(conditions: Sequence[ColumnElement[bool]], first: int) -> Select[Preset, int]:
    """Select the oldest presets that fit into a page, each with how many there are of up to one more than `first`.

    Documents are measured where they are, one after the other and none after the page is full: to measure a hundred
    large ones takes half a second.
    """
    place = func.row_number().over(order_by=col(Preset.id)).label("place")
    listed = select(Preset.id, place).where(*conditions).order_by(col(Preset.id)).limit(first + 1).cte("listed")
    size = func.octet_length(cast(col(Preset.document), Text))
    begun = select(listed.c.id, listed.c.place, size.label("total")).where(listed.c.place == 1)
    measured = begun.join(Preset, col(Preset.id) == listed.c.id).cte("measured", recursive=True)
    following = select(listed.c.id, listed.c.place, measured.c.total + size).select_from(measured)
    measured = measured.union_all(
        following.join(listed, listed.c.place == measured.c.place + 1)
        .join(Preset, col(Preset.id) == listed.c.id)
        .where(measured.c.total <= _LARGEST_PAGE)
    )
    found = select(func.count()).select_from(listed).scalar_subquery()
    fits = or_(measured.c.place == 1, and_(measured.c.place <= first, measured.c.total <= _LARGEST_PAGE))
    selected = select(Preset, found).join(measured, measured.c.id == col(Preset.id))
    return selected.where(fits).order_by(col(Preset.id))


def _problems_of_name(name: str) -> list[FieldProblem]:
    try:
        _NAME.validate_python(name, strict=True)
    except ValidationError as error:
        return [{**problem, "field": "name"} for problem in field_problems(error.errors(include_url=False))]
    return []


def _require_scope(principal: Principal, *names: str) -> None:
    if DEFAULT_NAME in names and not principal.has_scope(DEFAULTS_SCOPE):
        raise NotAllowedError(DEFAULTS_SCOPE)


def _owner_id(principal: Principal) -> str:
    """Return who asks, as the table keeps it."""
    return _kept_name("owner_id", principal.user_id)


def _kept_name(field: str, name: str) -> str:
    if len(name) > _LONGEST_OWNER or any(character == "\x00" or category(character) == "Cs" for character in name):
        rule = f"should be at most {_LONGEST_OWNER} characters, none of them NUL or half of a character"
        raise InvalidValueError(field, rule)
    return name


def _require_version(version: int) -> None:
    if not 1 <= version <= MOST_VERSIONS:
        raise InvalidValueError("version", f"should be a number from 1 to {MOST_VERSIONS}")


def _cursor_of(preset_id: UUID) -> str:
    return urlsafe_b64encode(preset_id.bytes).decode().rstrip("=")


def _id_of(cursor: str) -> UUID:
    try:
        preset_id = UUID(bytes=urlsafe_b64decode(cursor.encode() + b"=="))
    except ValueError as error:
        raise InvalidValueError("after", "should be the cursor of an earlier page") from error
    if _cursor_of(preset_id) != cursor:
        raise InvalidValueError("after", "should be the cursor of an earlier page")
    return preset_id
