"""Identity by a file of users and hashes of their passwords."""

import asyncio
import base64
import contextvars
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from api_server.exceptions import IdentityUnavailableError, NotAuthenticatedError, SettingsError
from api_server.identity.authenticator import Credentials, Principal
from api_server.identity.credentials_file import (
    CredentialsFileError,
    ReadFile,
    User,
    hash_of_nobody,
    read_credentials,
    stamp_of,
)
from api_server.identity.remembered import Remembered

# Each holds the memory of a hash and a thread for some hundredths of a second.
_AT_ONCE = 2
_MOST_CHECKS = 64
_REMEMBERED, _REMEMBERED_S = 1024, 60.0
_MOST_SECRET = 1024
# Between two looks at the file.
_LOOK_S = 1.0

log = structlog.get_logger("api_server.identity")


class BasicAuthenticator:
    """Believes who knows the password that a credentials file has the argon2id hash of.

    A password is checked in a thread, two at a time; where 64 are being checked or wait, IdentityUnavailableError is
    raised. One that was right is remembered for a minute, by a digest, as long as the user's line stays as it is. The
    file is read again within a second of its change, and one that cannot be used changes nothing.
    """

    challenge = 'Basic realm="api_server", charset="UTF-8"'

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._remembered: Remembered[User] = Remembered(_REMEMBERED, clock)
        self._checks: dict[bytes, asyncio.Task[bool]] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._looked_at = clock()
        self._users: Mapping[str, User] = {}
        self._stamp: tuple[int, ...] | None = None
        self._hash_of_nobody = ""
        try:
            self._take(read_credentials(path))
        except CredentialsFileError as error:
            raise SettingsError([str(error)]) from error

    async def authenticate(self, credentials: Credentials | None) -> Principal:
        if credentials is None:
            raise NotAuthenticatedError("This needs a user's name and password.")
        name, password = _name_and_password(credentials)
        await self._look_at_file()
        user = self._users.get(name)
        digest = self._remembered.digest(name, password)
        remembered = self._remembered.get(digest)
        if user is None or remembered != user:
            password_hash = user.password_hash if user is not None else self._hash_of_nobody
            is_right = await self._is_right(digest, password_hash, password)
            if user is None or not is_right:
                raise NotAuthenticatedError("There is no such user, or the password is another one.")
            self._remembered.keep(digest, user, _REMEMBERED_S)
        return Principal(user.name, user.scopes)

    async def aclose(self) -> None:
        checks = list(self._checks.values())
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    async def _is_right(self, digest: bytes, password_hash: str, password: str) -> bool:
        """Check a password once for all who present it meanwhile."""
        key = digest + password_hash.encode()
        check = self._checks.get(key)
        if check is None:
            if len(self._checks) >= _MOST_CHECKS:
                raise IdentityUnavailableError(f"{_MOST_CHECKS} passwords are being checked")
            # What it is asked by may go before the answer is there, and has its own context.
            checking = self._checked(password_hash, password)
            check = asyncio.create_task(checking, name="password", context=contextvars.Context())
            self._checks[key] = check
            check.add_done_callback(lambda _: self._checks.pop(key))
        return await asyncio.shield(check)

    async def _checked(self, password_hash: str, password: str) -> bool:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="password")
        return await asyncio.get_running_loop().run_in_executor(self._threads, _verify, password_hash, password)

    async def _look_at_file(self) -> None:
        """Read the file again where it has changed, looking at most once in a while."""
        if self._clock() - self._looked_at < _LOOK_S:
            return
        self._looked_at = self._clock()
        stamp = await asyncio.to_thread(stamp_of, self._path)
        if stamp == self._stamp:
            return
        try:
            self._take(await asyncio.to_thread(read_credentials, self._path))
            log.info("credentials file read again", users=len(self._users))
        except CredentialsFileError as error:
            self._stamp = stamp
            log.error("credentials file not read again: the users are those of before", reason=str(error))  # noqa: TRY400 - the sentence says all

    def _take(self, read: ReadFile) -> None:
        self._users = read.users
        self._stamp = read.stamp
        self._hash_of_nobody = hash_of_nobody(read.users)
        if read.is_open_to_others:
            log.warning("everybody on this machine may read or write the credentials file", file=str(self._path))


def _name_and_password(credentials: Credentials) -> tuple[str, str]:
    if credentials.scheme != "basic":
        raise NotAuthenticatedError("This service understands the scheme Basic.")
    try:
        text = base64.b64decode(credentials.value, validate=True).decode()
    except ValueError as error:
        raise NotAuthenticatedError("Basic credentials are the base64 form of 'user:password', in UTF-8.") from error
    name, colon, password = text.partition(":")
    if not colon or len(text) > _MOST_SECRET:
        raise NotAuthenticatedError(
            f"Basic credentials are the base64 form of 'user:password', {_MOST_SECRET} characters at most."
        )
    return name, password


def _verify(password_hash: str, password: str) -> bool:
    try:
        return PasswordHasher().verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
