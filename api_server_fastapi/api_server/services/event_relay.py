"""Events across the processes that share a database.

    async with borrow_db_session() as session:
        session.add(preset)
        await relay.publish(session, PresetChanged(preset_id=preset.id, kind=preset.kind))
        await relay.commit(session)

The announcement and what it is about are one transaction. Every process with a relay emits the event on its own bus.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import structlog
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.orm import SessionTransaction
from sqlmodel.ext.asyncio.session import AsyncSession

from api_server.database.connection import end_time_limit
from api_server.database.notifications import NotificationListener, PayloadTooLargeError, notify
from api_server.event_bus import BaseEvent
from api_server.events import EventsMayBeMissed
from api_server.exceptions import DatabaseUnavailableError
from api_server.identifiers import uuid7
from api_server.validation import field_problems

log = structlog.get_logger("api_server.events")

# How long the handlers of events keep others waiting.
_EMISSION_S = 1.0

# Of so many events it is known that they were emitted; each is heard of twice within moments.
_REMEMBERED = 4_096

# So many events may be waited for at once.
_MOST_HEARD = 64


class Bus(Protocol):
    """Where events are emitted; who ceases to wait for `emit` does not end the handlers."""

    async def emit(self, event: BaseEvent) -> None:
        """Run the handlers of an event."""


@dataclass(frozen=True, slots=True)
class _Announcement:
    """What is sent: `event` names a class as `module:qualname`."""

    id: UUID
    event: str
    fields: dict[str, Any]


_ANNOUNCEMENT = TypeAdapter(_Announcement)

# Made once: each takes a thousand times as long as what it is then used for.
_ADAPTERS: dict[type[BaseEvent], TypeAdapter[BaseEvent]] = {}


@dataclass(frozen=True, slots=True)
class _Published:
    """What was published in one transaction of a session."""

    transaction: SessionTransaction | None
    events: list[tuple[UUID, BaseEvent]] = field(default_factory=list)


class EventRelay:
    """Publishes events in transactions, and emits on its bus what this process and all others publish.

    `url` is that of the primary. Without a database there are no other processes to hear of: nothing can be published.
    Before each EventsMayBeMissed, `begins` is awaited.
    """

    def __init__(
        self,
        bus: Bus,
        url: str | None,
        channel: str = "api_server_events",
        *,
        begins: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._bus = bus
        self._channel = channel
        self._listener = (
            None
            if url is None
            else NotificationListener(url, channel, received=self._received, began=self._began_to_hear)
        )
        self._emissions: dict[UUID, asyncio.Event] = {}
        self._is_relaying = False
        self._begins = begins
        self._heard: set[asyncio.Task[None]] = set()

    @property
    def is_listening(self) -> bool:
        """Whether what other processes publish now is heard."""
        return self._listener is not None and self._listener.is_listening

    @property
    def reason(self) -> str | None:
        """Why this is not listening, for operators; None while it is."""
        return "no database is configured" if self._listener is None else self._listener.reason

    @property
    def interruptions(self) -> int:
        """How often it ceased to listen."""
        return 0 if self._listener is None else self._listener.interruptions

    @property
    def is_relaying(self) -> bool:
        """Whether this process relays at all: one that serves and has a database does, a command does not."""
        return self._is_relaying

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[None]:
        """Emit what is published, for as long as the context lasts.

        Each time when the relay begins to hear of others, it emits EventsMayBeMissed. Without a database, nothing.
        """
        if self._listener is None:
            yield
            return
        self._is_relaying = True
        try:
            async with self._listener.listening():
                yield
        finally:
            self._is_relaying = False
            for task in self._heard:
                task.cancel()
            if self._heard:
                await asyncio.wait(self._heard)

    async def publish(self, session: AsyncSession, event: BaseEvent) -> None:
        """Announce an event to every process when, and only if, the session's transaction is committed.

        Raises ValueError where the event is too large, and DatabaseUnavailableError without a database.
        """
        if self._listener is None:
            raise DatabaseUnavailableError("no database is configured")
        announcement = _announcement(event)
        try:
            await notify(session, self._channel, _ANNOUNCEMENT.dump_json(announcement).decode())
        except PayloadTooLargeError as error:
            raise ValueError(f"{announcement.event} is too large: an event carries an id, never a document") from error
        if not (await session.connection()).in_nested_transaction():
            # A savepoint may be rolled back unnoticed. What is published in one takes the way through the database.
            self._published(session).append((announcement.id, event))

    async def commit(self, session: AsyncSession) -> None:
        """Commit, and emit here at once what was published; how its handlers fare is no matter of who commits.

        Returns when they are done, or a second later: they go on then. Where the outcome of the commit does not
        become known, and where a session is committed by itself, the events take the way through the database.
        """
        published = [*self._published(session)]
        await session.commit()
        end_time_limit(session)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _EMISSION_S
        for announced, event in published:
            await self._emit_once(announced, event, deadline - loop.time())

    def _published(self, session: AsyncSession) -> list[tuple[UUID, BaseEvent]]:
        """Return what was published in the current transaction of a session; a former one's is forgotten."""
        transaction = session.sync_session.get_transaction()
        published = session.info.get(self)
        if published is None or published.transaction is not transaction:
            published = session.info[self] = _Published(transaction)
        return published.events

    async def _began_to_hear(self) -> None:
        if self._begins is not None:
            await self._begins()
        await self._emit(EventsMayBeMissed(), _EMISSION_S)

    async def _received(self, payload: str) -> None:
        if (heard := _understood(payload)) is None:
            return
        # Nobody waits for its handlers: those of the next event begin meanwhile. In a flood somebody has to.
        task = asyncio.create_task(self._emit_once(*heard, _EMISSION_S), name="event that was heard")
        self._heard.add(task)
        task.add_done_callback(self._heard.discard)
        if len(self._heard) >= _MOST_HEARD:
            await asyncio.wait(self._heard, return_when=asyncio.FIRST_COMPLETED)

    async def _emit_once(self, announced: UUID, event: BaseEvent, seconds: float) -> None:
        """Emit what comes from `commit` and from the database; who comes second waits for the first."""
        if (emission := self._emissions.get(announced)) is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await emission.wait()
            return
        if len(self._emissions) >= _REMEMBERED:
            del self._emissions[next(iter(self._emissions))]
        emission = self._emissions[announced] = asyncio.Event()
        try:
            await self._emit(event, seconds)
        finally:
            emission.set()

    async def _emit(self, event: BaseEvent, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._bus.emit(event)
        except TimeoutError:
            log.warning("handlers of an event take long", of=_name(type(event)))
        except Exception:
            # Of the bus: handlers' own errors stay in it. What is committed is committed.
            log.exception("an event was not emitted", of=_name(type(event)))


def _announcement(event: BaseEvent) -> _Announcement:
    fields = _adapter(type(event)).dump_python(event, mode="json")
    return _Announcement(uuid7(), _name(type(event)), fields)


def _understood(payload: str) -> tuple[UUID, BaseEvent] | None:
    """Make an event of what came from the database, which may come from anybody, and of another release."""
    try:
        announcement = _ANNOUNCEMENT.validate_json(payload)
        if (event_type := _known(announcement.event)) is None:
            log.debug("an event is not known here", of=announcement.event)
            return None
        return announcement.id, _adapter(event_type).validate_python(announcement.fields)
    except ValidationError as error:
        problems = field_problems(error.errors(include_url=False, include_input=False))
        log.warning("an announcement is not understood", problems=problems)
        return None


def _known(name: str) -> type[BaseEvent] | None:
    """Find a class among those that this process has imported; what the database says is never imported."""
    return next((event_type for event_type in _event_types(BaseEvent) if _name(event_type) == name), None)


def _event_types(base: type[BaseEvent]) -> Iterator[type[BaseEvent]]:
    for event_type in base.__subclasses__():
        yield event_type
        yield from _event_types(event_type)


def _name(event_type: type[BaseEvent]) -> str:
    return f"{event_type.__module__}:{event_type.__qualname__}"


def _adapter(event_type: type[BaseEvent]) -> TypeAdapter[BaseEvent]:
    if (adapter := _ADAPTERS.get(event_type)) is None:
        adapter = _ADAPTERS[event_type] = TypeAdapter(event_type)
    return adapter
