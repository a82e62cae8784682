"""Every socket and event stream that a process has open: how many there may be, and how they hear of their end."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self, TypeGuard

from api_server.exceptions import TooManyRequestsError
from api_server.identity import Principal
from api_server.settings import Settings

TOLD_WITHIN_S = 0.8
CHANGED_WITHIN_S = 0.4

_RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """What sockets may take: operations and messages a second of each, sockets of a principal, strangers in all."""

    operations: int = 100
    messages_per_s: int = 100
    per_principal: int = 128
    strangers: int = 1024
    """Sockets that have not introduced themselves, nor come by accepted credentials; each may take five seconds to."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the limits that these settings name."""
        return cls(
            operations=settings.graphql_socket_operations,
            messages_per_s=settings.graphql_socket_messages,
            per_principal=settings.graphql_principal_sockets,
        )


@dataclass(frozen=True, slots=True)
class Ending:
    """Why all that runs on a connection ends: what its operations are told, and the codes by which a socket closes."""

    code: str
    message: str
    close_code: int
    legacy_close_code: int

    @property
    def error(self) -> dict[str, object]:
        return {"message": self.message, "extensions": {"code": self.code}}


EXPIRED = Ending("UNAUTHENTICATED", "The credentials have expired.", 4403, 1011)
DRAINING = Ending("SERVER_DRAINING", "The server is about to stop; connect again.", 1012, 1012)


class SocketsFullError(Exception):
    """So many sockets wait for their introduction that there is no room for another one."""


class ServerDrainingError(Exception):
    """The server is about to stop, and takes nothing on."""

    code: ClassVar[str] = DRAINING.code


class Connection(Protocol):
    """A socket, or an event stream."""

    @property
    def protocol(self) -> str:
        """The name of what it speaks."""
        ...

    @property
    def running(self) -> int:
        """How many operations run on it."""
        ...

    async def end(self, ending: Ending) -> None:
        """End every operation with an error, but let changes come to their own end, and close."""
        ...


class OpenSockets:
    """The connections of one process, which end when it drains and when the credentials that they came by expire."""

    def __init__(self, limits: SocketLimits | None = None) -> None:
        self.limits = limits or SocketLimits()
        self._held: dict[Connection, _Held] = {}
        self._by_principal: Counter[str] = Counter()
        self._awaited: Counter[str] = Counter()
        self._strangers = 0
        self._is_closed = False

    def sockets(self, protocol: str) -> int:
        """How many connections of a protocol are open; server-sent events are `sse`."""
        return sum(connection.protocol == protocol for connection in self._held)

    @property
    def operations(self) -> int:
        """How many operations run, on all of them."""
        return sum(connection.running for connection in self._held)

    def check_open(self) -> None:
        """Raise ServerDrainingError where nobody is taken on any more."""
        if self._is_closed:
            raise ServerDrainingError

    def check_room(self, known: str | None = None) -> None:
        """Raise ServerDrainingError or SocketsFullError where no further socket is taken on.

        `known` is who comes, where they are known before they introduce themselves: strangers do not keep them out.
        """
        self.check_open()
        if not self._is_awaited(known) and self._strangers >= self.limits.strangers:
            raise SocketsFullError

    @contextmanager
    def holding(self, connection: Connection, known: str | None = None) -> Iterator[None]:
        """Count a connection for as long as the context lasts; `known` is who it is that will introduce themselves.

        One that was on its way when the server began to drain is ended at once.
        """
        held = self._held[connection] = _Held()
        if self._is_awaited(known):
            held.awaited = known
            self._awaited[known] += 1
        else:
            self._strangers += 1
        if self._is_closed:
            self._ending(connection, DRAINING)
        try:
            yield
        finally:
            del self._held[connection]
            held.forget()
            if held.principal is None:
                self._meet(held)
            else:
                _decrease(self._by_principal, held.principal)

    def introduce(self, connection: Connection, principal: Principal) -> None:
        """Count a connection that is held as this principal's, and end it when their credentials expire.

        Raises TooManyRequestsError where they have as many as they may.
        """
        held = self._held[connection]
        if self._by_principal[principal.user_id] >= self.limits.per_principal:
            raise TooManyRequestsError(
                f"{self.limits.per_principal} sockets and event streams are open; close one first", _RETRY_AFTER_S
            )
        self._meet(held)
        held.principal = principal.user_id
        self._by_principal[principal.user_id] += 1
        if principal.expires_at is not None:
            delay = principal.expires_at - time.time()
            held.expiry = asyncio.get_running_loop().call_later(delay, self._expire, connection)

    async def close(self) -> None:
        """Tell everybody who is connected that the server drains, and take nobody on from now."""
        self._is_closed = True
        endings = [self._ending(connection, DRAINING) for connection in self._held]
        if endings:
            await asyncio.wait(endings)

    def _is_awaited(self, known: str | None) -> TypeGuard[str]:
        """Whether one more socket of theirs may wait beside the strangers: as many as they may have at all."""
        return known is not None and self._awaited[known] < self.limits.per_principal

    def _meet(self, held: "_Held") -> None:
        """No longer count a connection among those that have not introduced themselves."""
        if held.awaited is None:
            self._strangers -= 1
        else:
            _decrease(self._awaited, held.awaited)

    def _expire(self, connection: Connection) -> None:
        self._ending(connection, EXPIRED)

    def _ending(self, connection: Connection, ending: Ending) -> asyncio.Task[None]:
        """Return the task that ends a connection; the first reason for it counts."""
        held = self._held[connection]
        if held.ending is None:
            held.ending = asyncio.create_task(_end(connection, ending), name=f"ending: {ending.code}")
        return held.ending


class _Held:
    """What is known of a connection."""

    __slots__ = ("awaited", "ending", "expiry", "principal")

    def __init__(self) -> None:
        self.awaited: str | None = None
        self.principal: str | None = None
        self.expiry: asyncio.TimerHandle | None = None
        self.ending: asyncio.Task[None] | None = None

    def forget(self) -> None:
        if self.expiry is not None:
            self.expiry.cancel()


def _decrease(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]


async def _end(connection: Connection, ending: Ending) -> None:
    # Who takes nothing is not told; whatever else goes wrong, they are gone.
    with suppress(TimeoutError, OSError, RuntimeError):
        async with asyncio.timeout(TOLD_WITHIN_S):
            await connection.end(ending)
