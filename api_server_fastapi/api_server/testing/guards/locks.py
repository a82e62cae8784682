"""Whether advisory locks are held after a test that were not held before it."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest

from api_server.database.advisory_lock import AdvisoryLock, lock_key
from api_server.local.postgres import PostgresAddress
from api_server.testing.guards.guard import Guard

_FIXTURE = "postgres"
# A session that was told to close may take a moment to be gone.
_PATIENCE_S, _BETWEEN_LOOKS_S = 0.5, 0.02
# A key is one number of 64 bits, or, with the 2, two numbers of 32.
_HELD = """
    SELECT l.pid, coalesce(d.datname, '?'), l.classid::bigint, l.objid::bigint, l.objsubid,
           coalesce(a.application_name, ''), coalesce(a.query, '')
    FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid) LEFT JOIN pg_database d ON d.oid = l.database
    WHERE l.locktype = 'advisory' AND l.granted
"""
# On a test that is guarded: the guard, for who drops a database and with it the sessions that hold locks there.
GUARD = pytest.StashKey["LocksGuard"]()
_NAMES = {lock_key(lock): lock.value for lock in AdvisoryLock}


class LocksGuard(Guard):
    """Compares the locks on the server of the fixture `postgres`, for tests that use it, directly or not."""

    name = "locks"

    def __init__(self) -> None:
        self._server: PostgresAddress | None = None
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._before: set[_Held] = set()
        self._left: set[_Held] = set()

    def stop(self) -> None:
        self._disconnect()

    def keep(self, fixture: pytest.FixtureDef[object], value: object) -> None:
        if fixture.argname == _FIXTURE and isinstance(value, PostgresAddress):
            self._server = value
            # At once, so that the connection is not taken for one of the test's.
            self._held()

    def drop(self, fixture: pytest.FixtureDef[object]) -> None:
        if fixture.argname == _FIXTURE:
            self._disconnect()
            self._server = None

    def enter(self, item: pytest.Item, *, is_guarded: bool) -> None:
        self._left = set()
        if is_guarded:
            item.stash[GUARD] = self

    def begin(self) -> None:
        self._before = self._held()

    def look_before_it_is_dropped(self, database: str) -> None:
        """Look for locks in a database that is about to be gone."""
        self._left |= self._left_in(database)

    def end(self, request: pytest.FixtureRequest) -> Iterable[str]:
        if _FIXTURE in request.fixturenames and (left := self._left | self._left_in()):
            shown = "\n".join(sorted(f"  {lock}" for lock in left))
            yield f"Advisory locks were left held:\n{shown}"

    def _left_in(self, database: str | None = None) -> "set[_Held]":
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            left = {lock for lock in self._held() - self._before if database in {None, lock.database}}
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(_BETWEEN_LOOKS_S)

    def _held(self) -> "set[_Held]":
        if self._server is None:
            return set()
        try:
            return self._ask(self._server)
        except psycopg.OperationalError:
            self._disconnect()
        try:
            return self._ask(self._server)
        except psycopg.OperationalError:
            return set()  # a server that nobody reaches holds nothing for anybody

    def _ask(self, server: PostgresAddress) -> "set[_Held]":
        if self._connection is None:
            url = replace(server, database="postgres").url
            self._connection = psycopg.connect(url, autocommit=True, application_name="guard of advisory locks")
        return {_Held(*row) for row in self._connection.execute(_HELD)}

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass(frozen=True, slots=True)
class _Held:
    """A lock that a session of the server holds."""

    pid: int
    database: str
    high: int
    low: int
    parts: int
    application: str
    query: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __str__(self) -> str:
        query = " ".join(self.query.split())
        return (
            f"{self._name} in database {self.database}, by the server's process {self.pid} "
            f"({self.application or 'no application_name'}), whose last query is: {query}"
        )

    @property
    def _identity(self) -> tuple[int, str, int, int, int]:
        return self.pid, self.database, self.high, self.low, self.parts

    @property
    def _name(self) -> str:
        if self.parts != 1:
            return f"key ({_signed(self.high, 32)}, {_signed(self.low, 32)})"
        key = _signed(self.high << 32 | self.low, 64)
        return f"{_NAMES[key]} (key {key})" if key in _NAMES else f"key {key}"


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value
