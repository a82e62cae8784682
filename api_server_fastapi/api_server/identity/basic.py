"""Identity by a file of users and hashes of their passwords."""

import asyncio
import base64
import contextvars
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from api_server.exceptions import IdentityUnavailableError, NotAuthenticatedError, SettingsError
from api_server.identity.authenticator import Credentials, Principal
from api_server.identity.credentials_file import CredentialsFileError, User
from api_server.identity.followed_users import FollowedUsers
from api_server.identity.remembered import Remembered
from api_server.identity.throttled_lines import ThrottledLines

# Each holds the memory of a hash and a thread for some hundredths of a second.
_AT_ONCE = 2
_MOST_CHECKS = 64
# That a password has a hash is true for good. It is forgotten for nothing but that memory holds as little as it may.
_REMEMBERED, _REMEMBERED_S = 1024, 900.0
_MOST_SECRET = 1024


class BasicAuthenticator:
    """Believes who knows the password that a credentials file has the argon2id hash of.

    A password is checked in a thread, two at a time; where 64 are being checked or wait, IdentityUnavailableError is
    raised. One that was right is remembered by a digest, until it was not used for 15 minutes, as long as the user's
    line stays as it is: who is known is not kept out by who guesses. The file is read again within a second of its
    change, and one that cannot be used changes nothing.
    """

    challenge = 'Basic realm="api_server", charset="UTF-8"'

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._remembered: Remembered[User] = Remembered(_REMEMBERED, clock)
        self._checks: dict[bytes, asyncio.Task[bool]] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._refusals = ThrottledLines("passwords refused", clock)
        self._overloads = ThrottledLines("passwords not checked", clock)
        try:
            self._followed = FollowedUsers(path, clock)
        except CredentialsFileError as error:
            raise SettingsError([str(error)]) from error

    async def authenticate(self, credentials: Credentials | None) -> Principal:
        if credentials is None:
            raise NotAuthenticatedError("This needs a user's name and password.")
        name, password = _name_and_password(credentials)
        await self._followed.look()
        user = self._followed.users.get(name)
        digest = self._remembered.digest(name, password)
        if user is None or self._remembered.get(digest) != user:
            password_hash = user.password_hash if user is not None else self._followed.hash_of_nobody
            is_right = await self._is_right(digest, password_hash, password)
            if user is None or not is_right:
                self._refusals.happened()
                raise NotAuthenticatedError("There is no such user, or the password is another one.")
        self._remembered.keep(digest, user, _REMEMBERED_S)
        return Principal(user.name, user.scopes)

    async def aclose(self) -> None:
        await self._followed.aclose()
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
                reason = f"{_MOST_CHECKS} passwords are being checked"
                self._overloads.happened(reason=reason)
                raise IdentityUnavailableError(reason)
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
