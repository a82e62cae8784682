"""Blocking work on the database that an event loop can wait for and, when it is cancelled, end for certain."""

import asyncio
import contextvars
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from os import dup
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection, event

from api_server.database.advisory_lock import PoolerRefusedError
from api_server.database.connection import create_sync_engine

_INTERRUPT_EVERY_S = 0.1
_CANCEL_TIMEOUT_S = 2.0

# After which a statement that cannot be cancelled loses its connection.
_CANCEL_PATIENCE_S = 5.0

# For the session, so that they hold outside of transactions too, where an index is created concurrently.
_PREPARE_SESSION = """
    SELECT set_config('application_name', 'api_server migrations', false), set_config('lock_timeout', %s, false),
           set_config('statement_timeout', %s, false), set_config('search_path', 'public', false)
"""
_NOTICE_CLIENT_THAT_DIED = "SET client_connection_check_interval = '1s'"

_T = TypeVar("_T")


class InterruptedWorkError(Exception):
    """Work in a thread does not go on, because nobody waits for it any more."""


class MigrationThread:
    """Connections straight to the primary for one piece of blocking work, which another thread can interrupt.

    No statement waits for a lock, or runs, for longer than the limits say, unless it is told others by `SET LOCAL`.
    """

    def __init__(self, url: str, *, lock_timeout: float, statement_timeout: float) -> None:
        self._url = url
        self._limits = (f"{lock_timeout * 1000:.0f}ms", f"{statement_timeout * 1000:.0f}ms")
        self._interrupted = threading.Event()
        self._finished = threading.Event()
        # Held by who closes the connection or looks for it, so that nobody else's is interrupted.
        self._using = threading.Lock()
        self._in_use: psycopg.Connection[Any] | None = None

    async def run(self, work: Callable[[], _T]) -> _T:
        """Do the work in a thread. Where this is cancelled, the work is interrupted, and has ended afterwards."""
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        executor = ThreadPoolExecutor(2, thread_name_prefix="migrations")
        running = loop.run_in_executor(executor, context.run, self._finishing, work)
        try:
            # A future of an executor, cancelled, would say that it is done while its thread goes on.
            await asyncio.wait({running})
        except asyncio.CancelledError:
            interrupting = loop.run_in_executor(executor, self._interrupt)
            await _done(running, interrupting)
            running.exception()
            raise
        finally:
            executor.shutdown(wait=False)
        return running.result()

    def check(self) -> None:
        """Raise InterruptedWorkError where the work is not to go on."""
        if self._interrupted.is_set():
            raise InterruptedWorkError("the migrations were interrupted")

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Lend a connection of its own. Raises PoolerRefusedError where it leads to a pooler."""
        engine = create_sync_engine(self._url, target_session_attrs="primary")
        event.listen(engine, "before_cursor_execute", lambda *_: self.check())
        with engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            assert isinstance(raw, psycopg.Connection)
            self._prepare(raw)
            # As the search path says: a role that is called like the schema has another one by default.
            connection.dialect.default_schema_name = "public"
            with self._interruptible(raw):
                yield connection

    def _prepare(self, raw: "psycopg.Connection[Any]") -> None:
        raw.autocommit = True
        told = raw.info
        if raw.execute("SELECT pg_backend_pid()").fetchone() != (told.backend_pid,):
            raise PoolerRefusedError(
                f"{told.host}:{told.port} is a connection pooler, which would lend a connection with the limits of "
                "migrations to others: set API_SERVER_DATABASE_URL to the database server itself."
            )
        raw.execute(_PREPARE_SESSION, self._limits)
        # PostgreSQL 14 and later, on systems that can tell.
        with suppress(psycopg.Error):
            raw.execute(_NOTICE_CLIENT_THAT_DIED)
        raw.autocommit = False

    @contextmanager
    def _interruptible(self, raw: "psycopg.Connection[Any]") -> Iterator[None]:
        self._in_use = raw
        try:
            yield
        finally:
            with self._using:
                self._in_use = None

    def _finishing(self, work: Callable[[], _T]) -> _T:
        try:
            return work()
        finally:
            self._finished.set()

    def _interrupt(self) -> None:
        """End what the server does for the work, until the work has ended."""
        self._interrupted.set()
        deadline = time.monotonic() + _CANCEL_PATIENCE_S
        while not self._finished.wait(_INTERRUPT_EVERY_S):
            with self._using:
                if self._in_use is None:
                    continue
                if time.monotonic() < deadline:
                    with suppress(psycopg.Error, OSError):
                        self._in_use.cancel_safe(timeout=_CANCEL_TIMEOUT_S)
                else:
                    _hang_up(self._in_use)


def _hang_up(raw: "psycopg.Connection[Any]") -> None:
    """Let whoever waits for an answer on this connection meet its end."""
    with suppress(psycopg.Error, OSError), socket.socket(fileno=dup(raw.fileno())) as copied:
        copied.shutdown(socket.SHUT_RDWR)


async def _done(*futures: "asyncio.Future[Any]") -> None:
    """Wait until these are done, however often this is cancelled meanwhile."""
    while not all(future.done() for future in futures):
        with suppress(asyncio.CancelledError):
            await asyncio.wait(futures)
