"""The users of a credentials file as it changes, without anybody hanging on what the file hangs on."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import structlog

from api_server.identity.credentials_file import (
    CredentialsFileError,
    ReadFile,
    UnreadFileError,
    User,
    hash_of_nobody,
    read_credentials,
    stamp_of,
)

# Between two looks at the file.
_LOOK_S = 1.0
# So long a look is waited for; one at a disk that is well takes far less than a millisecond.
_PATIENCE_S = 0.25

T = TypeVar("T")
Stamp = tuple[int, ...] | None

log = structlog.get_logger("api_server.identity")


class FollowedUsers:
    """The users of a file, as it was when it could be used last.

    The constructor reads it, and raises CredentialsFileError where that cannot be done.
    """

    users: Mapping[str, User]
    hash_of_nobody: str
    _stamp: Stamp

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = clock()
        self._is_waited_for_until = 0.0
        self._told = ""
        self._take(read_credentials(path))

    async def look(self) -> None:
        """Read the file again where it has changed, looking at most once a second.

        A look that takes longer than a quarter of a second goes on without anybody waiting for it.
        """
        now = asyncio.get_running_loop().time()
        if self._looking is None:
            if self._clock() - self._looked_at < _LOOK_S:
                return
            self._looked_at = self._clock()
            self._is_waited_for_until = now + _PATIENCE_S
            # It is nobody's request, and its lines carry nobody's id.
            self._looking = asyncio.create_task(self._look(), name="credentials", context=contextvars.Context())
            self._looking.add_done_callback(self._ended)
        patience = self._is_waited_for_until - now
        if patience > 0 and (await asyncio.wait([self._looking], timeout=patience))[1]:
            self._tell("it is not read within a quarter of a second")

    async def aclose(self) -> None:
        """End a look that goes on; its thread may hang, and keeps nobody."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        stamp, read = await asyncio.wrap_future(_in_a_thread_of_its_own(self._changed))
        if isinstance(read, ReadFile):
            self._take(read)
            log.info("credentials file read again", users=len(self.users))
        elif read is not None:
            self._tell(str(read))
            # Of a file that could not be read it is not known what it says: it is tried again.
            if not isinstance(read, UnreadFileError):
                self._stamp = stamp
            return
        self._told = ""

    def _changed(self) -> tuple[Stamp, ReadFile | CredentialsFileError | None]:
        """Return the stamp of the file, and what it says or why that is not known, where the stamp is a new one."""
        stamp = stamp_of(self._path)
        if stamp == self._stamp:
            return stamp, None
        try:
            return stamp, read_credentials(self._path)
        except CredentialsFileError as error:
            return stamp, error

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._looking = None

    def _take(self, read: ReadFile) -> None:
        self.users = read.users
        self.hash_of_nobody = hash_of_nobody(read.users)
        self._stamp = read.stamp
        if read.is_open_to_others:
            log.warning("everybody on this machine may read or write the credentials file", file=str(self._path))

    def _tell(self, reason: str) -> None:
        """Log once what is wrong, until it is another thing or was right in between."""
        if reason != self._told:
            self._told = reason
            log.error("credentials file not read again: the users are those of before", reason=reason)


def _in_a_thread_of_its_own(function: Callable[[], T]) -> "Future[T]":
    """Run a function that may never return: nobody joins its thread, as they do those of executors."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - it is raised to who waits
            future.set_exception(error)

    threading.Thread(target=run, name="credentials", daemon=True).start()
    return future
