"""Presets: documents that users keep under names, each of a kind that says what it may hold."""

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from psycopg.errors import UniqueViolation
from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, delete, insert, literal, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

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
from api_server.identity import Principal
from api_server.models.api_model import MOST_IN_PAGE, MOST_VERSIONS
from api_server.models.base_model import DEFAULT_NAME, Kind, Name, _utcnow
from api_server.models.db_model import Preset
from api_server.services.preset_documents import checked_document
from api_server.validation import FieldProblem, field_problems

DEFAULTS_SCOPE = "presets:default"

_TIMEOUT_S = 5.0
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


class PresetService:
    """Keeps presets for their owners; `kinds` maps each kind to the model that its documents keep to.

    Somebody else's preset is not found. But the one of a kind that is named `default` is the whole service's: everybody
    sees it, and who has the scope `presets:default` changes it, whoever created it.

    Every method raises DatabaseUnavailableError where the database cannot be used just now.
    """

    def __init__(self, kinds: Mapping[str, type[BaseModel]], publisher: Publisher) -> None:
        for kind in kinds:
            _KIND.validate_python(kind)
        self._kinds = dict(kinds)
        self._publisher = publisher

    async def create(self, principal: Principal, kind: str, name: str, document: object) -> Preset:
        """Keep a document, completed with the defaults of its model.

        Raises InvalidValueError, InvalidFieldsError, NotAllowedError, and ResourceExistsError for a name in use.
        """
        self._require_kind(kind)
        _require_scope(principal, name)
        kept = await self._checked(kind, name, document)
        async with borrow_db_session(timeout=_TIMEOUT_S) as session:
            preset = Preset(kind=kind, name=name, document=kept, owner_id=principal.user_id)
            async with _unique(name):
                values = preset.model_dump()
                created: Preset | None = await session.scalar(insert(Preset).values(values).returning(Preset))
            assert created is not None, "an INSERT returns its row or raises"
            await self._commit(session, created)
            return created

    async def get(self, principal: Principal, preset_id: UUID) -> Preset:
        """Return a preset. Raises ResourceNotFoundError."""
        async with borrow_db_session(timeout=_TIMEOUT_S) as session:
            statement = select(Preset).where(col(Preset.id) == preset_id, *self._visible(principal))
            preset = (await session.exec(statement)).one_or_none()
        if preset is None:
            raise ResourceNotFoundError("preset", preset_id)
        return preset

    async def page(self, principal: Principal, kind: str, first: int = 20, after: str | None = None) -> PresetPage:
        """Return the `first` (1 to 100) oldest presets of a kind, those after a cursor of an earlier page.

        Pages that follow each other show each preset once that is there all the time, whatever else is written.
        Raises InvalidValueError.
        """
        self._require_kind(kind)
        if not 1 <= first <= MOST_IN_PAGE:
            raise InvalidValueError("first", f"should be a number from 1 to {MOST_IN_PAGE}")
        statement = select(Preset).where(col(Preset.kind) == kind, *self._visible(principal))
        if after is not None:
            statement = statement.where(col(Preset.id) > _id_of(after))
        async with borrow_db_session(timeout=_TIMEOUT_S) as session:
            found = (await session.exec(statement.order_by(col(Preset.id)).limit(first + 1))).all()
        items = found[:first]
        return PresetPage(items, _cursor_of(items[-1].id) if items else None, has_next=len(found) > first)

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
            known = await self._known(session, principal, preset_id)
            if kind not in (None, known.kind):
                raise InvalidValueError("kind", f"should be {known.kind}, which cannot be changed")
            _require_scope(principal, known.name, name)
            kept = await self._checked(known.kind, name, document)
            change = (
                update(Preset)
                .where(col(Preset.id) == preset_id, col(Preset.version) == version)
                .values(name=name, document=kept, version=col(Preset.version) + 1, updated_at=_utcnow())
                .returning(Preset)
            )
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
            known = await self._known(session, principal, preset_id)
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
        return None if document is None else dict(document)

    def _require_kind(self, kind: str) -> None:
        if kind not in self._kinds:
            raise InvalidValueError("kind", f"should be one of {', '.join(sorted(self._kinds))}")

    async def _checked(self, kind: str, name: str, document: object) -> dict[str, Any]:
        """Return the document as it is kept, or raise all that is wrong with it and its name."""
        problems = _problems_of_name(name)
        try:
            # A large one takes a tenth of a second, which others should not wait for.
            kept = await asyncio.to_thread(checked_document, self._kinds[kind], document)
        except InvalidFieldsError as error:
            problems += error.problems
        if problems:
            raise InvalidFieldsError(problems)
        return kept

    def _visible(self, principal: Principal) -> Sequence[ColumnElement[bool]]:
        mine = col(Preset.owner_id) == principal.user_id
        return or_(mine, _IS_DEFAULT), col(Preset.kind).in_(sorted(self._kinds))

    async def _known(self, session: AsyncSession, principal: Principal, preset_id: UUID) -> _Known:
        columns = select(Preset.id, Preset.kind, Preset.name, Preset.version)
        statement = columns.where(col(Preset.id) == preset_id, *self._visible(principal))
        row = (await session.exec(statement)).one_or_none()
        if row is None:
            raise ResourceNotFoundError("preset", preset_id)
        return _Known(*row)

    async def _conflict(
        self, session: AsyncSession, principal: Principal, preset_id: UUID, expected: int
    ) -> VersionConflictError:
        """Return why nothing was changed. Raises ResourceNotFoundError where there is no such preset any more."""
        current = await self._known(session, principal, preset_id)
        return VersionConflictError(expected, current.version)

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


def _problems_of_name(name: str) -> list[FieldProblem]:
    try:
        _NAME.validate_python(name, strict=True)
    except ValidationError as error:
        return [{**problem, "field": "name"} for problem in field_problems(error.errors(include_url=False))]
    return []


def _require_scope(principal: Principal, *names: str) -> None:
    if DEFAULT_NAME in names and not principal.has_scope(DEFAULTS_SCOPE):
        raise NotAllowedError(DEFAULTS_SCOPE)


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
