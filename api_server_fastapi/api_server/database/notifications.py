"""Notifications between the processes that share a database, by PostgreSQL's NOTIFY and LISTEN.

    await notify(session, "orders", "42")
    await session.commit()

    listener = NotificationListener(url, "orders", received=look_at_order, began=read_all_orders)
    async with listener.listening():
        ...

PostgreSQL keeps nothing for who does not listen just then: whenever a listener begins to hear, or does so again, it
says so by `began`, and whoever holds what it once read reads it anew.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum
from typing import Any, ParamSpec

import psycopg
import structlog
from psycopg import AsyncConnection, sql
from psycopg.pq import ExecStatus
from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from api_server.database.conninfo import conninfo

log = structlog.get_logger("api_server.database.notifications")

MOST_BYTES = 7_999

_NOTIFY = text("SELECT pg_notify(:channel, :payload)")

# How long entering waits for the database: a server starts without it too.
_START_S = 2.0

# A connection on which nothing arrives for so long is asked whether it lives, and has so long to answer.
_QUIET_S = 3.0
_ANSWER_S = 3.0

_SHORTEST_DELAY_S, _LONGEST_DELAY_S = 0.1, 1.0

_CONNECTION: dict[str, str | int] = {
    "application_name": "api_server listener",
    "target_session_attrs": "primary",
}
# The server notices as well when this machine vanishes, and keeps no notifications for it.
_PREPARE_SESSION = b"SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"

_P = ParamSpec("_P")


class PayloadTooLargeError(ValueError):
    """A payload is larger than what PostgreSQL carries."""

    def __init__(self, size: int) -> None:
        super().__init__(f"A notification carries {MOST_BYTES:,} bytes at most, and this payload has {size:,}.")


async def notify(session: AsyncSession, channel: str, payload: str) -> None:
    """Announce `payload` to every listener when, and only if, the session's transaction is committed.

    Raises PayloadTooLargeError. Equal payloads of one transaction arrive once.
    """
    if (size := len(payload.encode())) > MOST_BYTES:
        raise PayloadTooLargeError(size)
    connection = await session.connection()
    await connection.execute(_NOTIFY, {"channel": channel, "payload": payload})


class _Standing(Enum):
    """How a listener stands; a change of it is a line in the log."""

    NOT_STARTED = "not started"
    LISTENING = "listening"
    CUT_OFF = "cut off"
    BEHIND_POOLER = "behind a pooler"


class NotificationListener:
    """Hears what is announced on a channel, by a connection of its own, straight to the primary.

    `received` is awaited with each payload, in their order, and `began` each time when the listener begins to hear;
    what they raise is logged. A connection that is lost is replaced, for ever. A pooler passes no notifications on:
    behind one `began` is called every `pooler_interval` seconds instead.
    """

    def __init__(
        self,
        url: str,
        channel: str,
        *,
        received: Callable[[str], Awaitable[None]],
        began: Callable[[], Awaitable[None]],
        pooler_interval: float = 5.0,
    ) -> None:
        self._url = url
        self._channel = channel
        self._received = received
        self._began = began
        self._pooler_interval = pooler_interval
        self._standing = _Standing.NOT_STARTED
        self._reason: str | None = "it was not started"
        self.interruptions = 0
        """How often what was heard before was heard no more."""
        self._has_tried = asyncio.Event()

    @property
    def is_listening(self) -> bool:
        """Whether what is announced now is heard."""
        return self._standing is _Standing.LISTENING

    @property
    def reason(self) -> str | None:
        """Why this is not listening, for operators; None while it is."""
        return self._reason

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen for as long as the context lasts.

        Its body begins when `began` was called or the first attempt failed, and after two seconds at most.
        """
        self._has_tried = asyncio.Event()
        self._reason = "it has not connected yet"
        task = asyncio.create_task(self._keep_listening(), name=f"listener of {self._channel}")
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_START_S):
                    await self._has_tried.wait()
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            self._standing, self._reason = _Standing.NOT_STARTED, "it was ended"

    async def _keep_listening(self) -> None:
        now = asyncio.get_running_loop().time
        delay = _SHORTEST_DELAY_S
        while True:
            started = now()
            try:
                await self._listen()
            except _PoolerError as error:
                await self._begin(_Standing.BEHIND_POOLER, str(error))
                await asyncio.sleep(self._pooler_interval)
            # Whatever it is, who ceases to listen because of it holds for ever what it read last.
            except Exception as error:  # noqa: BLE001 - told, and tried again
                self._stand(_Standing.CUT_OFF, " ".join(f"{type(error).__name__}: {error}".split()))
                if now() - started > _LONGEST_DELAY_S + _SHORTEST_DELAY_S:
                    # It did not fail at once. One that does, again and again, is a burden to the server and the log.
                    delay = _SHORTEST_DELAY_S
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(2 * delay, _LONGEST_DELAY_S)

    async def _listen(self) -> None:
        """Hear until the connection is lost, which raises."""
        async with _connected(self._url) as line:
            await line.listen(self._channel)
            await self._begin(_Standing.LISTENING, None)
            while True:
                payload = await line.payload()
                await self._call(self._received, payload)

    async def _begin(self, standing: _Standing, reason: str | None) -> None:
        await self._call(self._began)
        self._stand(standing, reason)

    def _stand(self, standing: _Standing, reason: str | None) -> None:
        before, self._standing, self._reason = self._standing, standing, reason
        self._has_tried.set()
        if standing is before:
            return
        self.interruptions += before is _Standing.LISTENING
        if standing is _Standing.LISTENING:
            log.info("notifications are heard", channel=self._channel)
        else:
            log.warning("notifications are not heard", channel=self._channel, reason=reason)

    async def _call(self, callback: Callable[_P, Awaitable[None]], *args: _P.args, **kwargs: _P.kwargs) -> None:
        # Nothing that is done about one notification may keep the following ones from being heard.
        try:
            await callback(*args, **kwargs)
        except Exception:
            log.exception("a notification was not handled", channel=self._channel)
        except asyncio.CancelledError:
            # Of something that the callback waited for, or of this task.
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            log.exception("a notification was not handled", channel=self._channel)
        # The callback need not have waited for anything, and there may be many notifications.
        await asyncio.sleep(0)


class _PoolerError(Exception):
    """The URL leads to a connection pooler."""


@asynccontextmanager
async def _connected(url: str) -> "AsyncIterator[_Line]":
    connection = await AsyncConnection.connect(conninfo(url, **_CONNECTION), autocommit=True)
    try:
        yield _Line(connection)
    finally:
        await connection.close()


class _Line:
    """A connection that listens, and raises psycopg.Error when it is lost.

    It speaks to libpq itself: who cancels a statement of psycopg's waits until the server has cancelled it too, which
    for one that is frozen or gone takes ten seconds.
    """

    def __init__(self, connection: AsyncConnection[tuple[Any, ...]]) -> None:
        self._connection = connection
        self._libpq = connection.pgconn

    async def listen(self, channel: str) -> None:
        """Begin to hear. Raises _PoolerError."""
        told = self._connection.info
        # A pooler invents the process number that it tells each client.
        if await self._ask(b"SELECT pg_backend_pid()") != str(told.backend_pid):
            raise _PoolerError(
                f"{told.host}:{told.port} is a connection pooler, which passes no notifications on: "
                "set API_SERVER_DATABASE_URL to the database server itself."
            )
        await self._ask(_PREPARE_SESSION)
        await self._ask(sql.SQL("LISTEN {}").format(sql.Identifier(channel)).as_bytes(self._connection))

    async def payload(self) -> str:
        """Wait for the next notification, however long it takes."""
        while (heard := self._libpq.notifies()) is None:
            try:
                async with asyncio.timeout(_QUIET_S):
                    await self._input()
            except TimeoutError:
                await self._ask(b"SELECT 1")
        return self._text(heard.extra)

    async def _ask(self, question: bytes) -> str | None:
        """Return the first value of the last answer."""
        value: bytes | None = None
        self._libpq.send_query(question)
        try:
            async with asyncio.timeout(_ANSWER_S):
                while True:
                    while self._libpq.is_busy():
                        await self._input()
                    if (result := self._libpq.get_result()) is None:
                        return None if value is None else self._text(value)
                    if result.status not in {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}:
                        raise psycopg.OperationalError(result.get_error_message(self._connection.info.encoding))
                    value = result.get_value(0, 0) if result.ntuples else None
        except TimeoutError as error:
            raise psycopg.OperationalError(f"the server does not answer within {_ANSWER_S:g} s") from error

    async def _input(self) -> None:
        """Wait until the server says something, and take it in."""
        loop, socket, arrived = asyncio.get_running_loop(), self._libpq.socket, asyncio.Event()
        loop.add_reader(socket, arrived.set)
        try:
            await arrived.wait()
        finally:
            loop.remove_reader(socket)
        self._libpq.consume_input()

    def _text(self, value: bytes) -> str:
        return value.decode(self._connection.info.encoding, "replace")
