"""Whether a test took a connection from a pool of SQLAlchemy's or asyncpg's, and did not give it back.

Neither library is loaded for that: a pool is watched once a test has loaded its library.
"""
# ruff: noqa: SLF001 - a pool of asyncpg's tells nobody what it lends

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from api_server.testing.guards.guard import Guard, replace
from api_server.testing.guards.places import STANDARD_LIBRARY, folder_of, frames, named_task, outside, place_of

# Callbacks of an event loop pass it.
_GUARDS = str(Path(__file__).parent)


class PoolSlotsGuard(Guard):
    """Remembers who took a connection from a pool until it is given back."""

    name = "pool_slots"

    def __init__(self) -> None:
        self._libraries: tuple[_Library, ...] = (_SqlAlchemy(self._take), _Asyncpg(self._take))
        self._is_shared = False

    def stop(self) -> None:
        for library in self._libraries:
            library.unwatch()

    def begin(self) -> None:
        self.call()
        for library in self._libraries:
            library.forget()

    def call(self) -> None:
        for library in self._libraries:
            library.watch_when_loaded()

    def end(self, request: pytest.FixtureRequest) -> Iterable[str]:  # noqa: ARG002 - what every guard is asked
        if left := sorted(f"  {name}, taken {place}" for one in self._libraries for name, place in one.out()):
            yield "\n".join(["Connections were taken from a pool and not given back:", *left])

    @contextmanager
    def outliving(self) -> Iterator[None]:
        was_shared, self._is_shared = self._is_shared, True
        try:
            yield
        finally:
            self._is_shared = was_shared

    def _take(self, library: str) -> str | None:
        """Name who takes a connection now; None where it is taken for more tests than one."""
        if self._is_shared:
            return None
        found = outside(_callers(sys._getframe(1)), _GUARDS, STANDARD_LIBRARY, library)
        if (frame := next(found, None)) is not None:
            return f"at {place_of(frame)}"
        # A library's own coroutine may be a task of its own, which nobody has called.
        task = asyncio.current_task()
        return f"by {named_task(task)}" if task is not None else "by nobody that is known"


class _Library(ABC):
    """What is out of the pools of a library."""

    module: str

    def __init__(self, take: Callable[[str], str | None]) -> None:
        self._take = take
        self._is_watched = False

    def watch_when_loaded(self) -> None:
        if not self._is_watched and (module := sys.modules.get(self.module)) is not None:
            self._is_watched = True
            self.watch(module)

    @abstractmethod
    def watch(self, module: Any) -> None:  # noqa: ANN401 - a module that is looked at without importing it
        """Notice what is taken and given back from now on."""

    @abstractmethod
    def unwatch(self) -> None:
        """Leave the library as it was."""

    @abstractmethod
    def out(self) -> Iterable[tuple[str, str]]:
        """Yield what is out, and who took it."""

    @abstractmethod
    def forget(self) -> None:
        """Forget what was taken so far: it is another test's."""


class _SqlAlchemy(_Library):
    """Pools of SQLAlchemy's, of engines that are asynchronous too; told by the pools' own events."""

    module = "sqlalchemy"

    def __init__(self, take: Callable[[str], str | None]) -> None:
        super().__init__(take)
        # By its identity, a pool's record of a connection, kept so that no other can have that identity.
        self._out: dict[int, tuple[Any, str]] = {}
        self._folder = ""
        self._unwatch: list[Callable[[], None]] = []

    def watch(self, module: Any) -> None:  # noqa: ANN401 - as above
        self._folder = folder_of(module)
        pool, events = sys.modules["sqlalchemy.pool"], module.event
        for name, notice in (("checkout", self._taken), ("checkin", self._given_back), ("detach", self._given_back)):
            events.listen(pool.Pool, name, notice)
            self._unwatch.append(lambda name=name, notice=notice: events.remove(pool.Pool, name, notice))  # type: ignore[misc]  # bound now

    def unwatch(self) -> None:
        for unwatch in self._unwatch:
            unwatch()

    def out(self) -> Iterable[tuple[str, str]]:
        return [("a connection of SQLAlchemy's pool", place) for _, place in list(self._out.values())]

    def forget(self) -> None:
        self._out.clear()

    def _taken(self, connection: object, record: Any, proxy: object) -> None:  # noqa: ANN401, ARG002 - as it is called
        if (place := self._take(self._folder)) is not None:
            self._out[id(record)] = record, place

    def _given_back(self, connection: object, record: Any) -> None:  # noqa: ANN401, ARG002 - as it is called
        self._out.pop(id(record), None)


class _Asyncpg(_Library):
    """Pools of asyncpg's, which have no events."""

    module = "asyncpg.pool"

    def __init__(self, take: Callable[[str], str | None]) -> None:
        super().__init__(take)
        # By the identity of a pool's holder, the connection that was taken last from it.
        self._taken: dict[int, tuple[Any, str]] = {}
        self._terminated: list[str] = []
        self._folder = ""
        self._put_back: list[Callable[[], None]] = []

    def watch(self, module: Any) -> None:  # noqa: ANN401 - as above
        self._folder = folder_of(module)
        pool = module.Pool
        acquire, terminate = pool._acquire, pool.terminate

        @wraps(acquire)
        async def noting_acquire(self_: Any, timeout: float | None) -> Any:  # noqa: ANN401, ASYNC109 - as asyncpg has it
            place = self._take(self._folder)
            connection = await acquire(self_, timeout)
            if place is not None:
                self._taken[id(connection._holder)] = connection, place
            return connection

        @wraps(terminate)
        def noting_terminate(self_: Any) -> None:  # noqa: ANN401 - a pool
            # A pool that is terminated takes back what is out, which nobody gave.
            self._terminated += [
                place for taken, place in self._taken.values() if _is_out(taken) and taken._holder._pool is self_
            ]
            terminate(self_)

        self._put_back = [replace(pool, "_acquire", noting_acquire), replace(pool, "terminate", noting_terminate)]

    def unwatch(self) -> None:
        for put_back in self._put_back:
            put_back()

    def out(self) -> Iterable[tuple[str, str]]:
        places = [*self._terminated, *(place for taken, place in self._taken.values() if _is_out(taken))]
        return [("a connection of asyncpg's pool", place) for place in places]

    def forget(self) -> None:
        self._taken.clear()
        self._terminated.clear()


def _is_out(connection: Any) -> bool:  # noqa: ANN401 - asyncpg's
    """Whether a pool's connection is still lent to who took it: one that was given back leads to no server."""
    return connection._con is not None


def _callers(frame: FrameType) -> Iterator[FrameType]:
    """Yield a frame and its callers, across the switch by which SQLAlchemy runs blocking code in an event loop."""
    yield from frames(frame)
    if (greenlet := sys.modules.get("greenlet")) is not None:
        current = greenlet.getcurrent()
        while (current := current.parent) is not None:
            yield from frames(current.gr_frame)
