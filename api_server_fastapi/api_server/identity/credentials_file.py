"""The file of users that the identity `basic` believes: a line for each, `name:hash:scope scope …`."""

import os
import re
import secrets
import stat
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_MOST_BYTES = 2**20
_NAME = re.compile(r"[\w.@+-]{1,128}", re.ASCII)
_SCOPE = re.compile(r"[\x21\x23-\x39\x3b-\x5b\x5d-\x7e]{1,128}")  # RFC 6749's, without the colon
_HASH = re.compile(
    r"\$argon2id\$v=19\$m=(?P<kib>[1-9]\d{0,6}),t=(?P<passes>[1-9]\d?),p=(?P<lanes>[1-9]\d?)"
    r"\$(?P<salt>[A-Za-z0-9+/]{11,86})\$(?P<digest>[A-Za-z0-9+/]{16,172})",
    re.ASCII,
)
# What one guess may cost the service.
_MOST_KIB, _MOST_PASSES, _MOST_LANES = 256 * 1024, 16, 8
# OWASP's, for one lane: 19 MiB and a few hundredths of a second for each guess.
KIB, PASSES, LANES = 19 * 1024, 2, 1


class CredentialsFileError(Exception):
    """The file cannot be used; the message is a sentence that names it, and the line."""


class UnreadFileError(CredentialsFileError):
    """What the file says is not known: it could not be read."""


class MissingFileError(UnreadFileError):
    """There is no such file."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody of the file."""

    name: str
    password_hash: str = field(repr=False)
    scopes: frozenset[str] = frozenset()

    @property
    def cost(self) -> str:
        """What one guess costs, as argon2 writes it."""
        return self.password_hash.split("$")[3]

    @property
    def line(self) -> str:
        """The line of the file that says this."""
        return f"{self.name}:{self.password_hash}:{' '.join(sorted(self.scopes))}"


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file as it was once: its users and lines, the stamp by which a change is noticed, and who else may read it."""

    users: Mapping[str, User]
    lines: tuple[bytes, ...] = field(repr=False)
    stamp: tuple[int, ...]
    is_open_to_others: bool


def stamp_of(path: Path) -> tuple[int, ...] | None:
    """Return what differs once a file has changed, None where there is no such file."""
    try:
        return _stamp(path.stat())
    except OSError:
        return None


def read_credentials(path: Path) -> ReadFile:
    """Read the users of a file. Raises CredentialsFileError, UnreadFileError where that says nothing of its content."""
    status, content = _content(path)
    if len(content) > _MOST_BYTES:
        raise CredentialsFileError(f"The credentials file {path} is larger than {_MOST_BYTES} bytes.")
    users: dict[str, User] = {}
    for number, line in _lines(path, content):
        if line.strip() and not line.startswith("#"):
            user = _user(path, number, line)
            if user.name in users:
                raise CredentialsFileError(f"Line {number} of {path} names {user.name}, as a line before it does.")
            users[user.name] = user
    is_open_to_others = bool(status.st_mode & stat.S_IRWXO)
    return ReadFile(users, split_lines(content), _stamp(status), is_open_to_others)


def split_lines(content: bytes) -> tuple[bytes, ...]:
    """Return the lines of a file, which end with a line feed and nothing else."""
    return tuple(content.removesuffix(b"\n").split(b"\n")) if content else ()


def check_name(name: str) -> None:
    """Raise CredentialsFileError where nobody can be called that."""
    if not _NAME.fullmatch(name):
        raise CredentialsFileError("A user is named by 1 to 128 letters, digits and the characters . @ + - _.")


def check_scope(scope: str) -> None:
    """Raise CredentialsFileError where a scope cannot be called that."""
    if not _SCOPE.fullmatch(scope):
        raise CredentialsFileError('A scope is 1 to 128 visible ASCII characters without : " and \\.')


def hash_of_nobody(users: Mapping[str, User]) -> str:
    """Return a hash that no password has, and that takes as long to check as those of most users do."""
    costs = [user.cost for user in users.values()]
    cost = max(costs, key=costs.count, default=f"m={KIB},t={PASSES},p={LANES}")
    salt, digest = (b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
    return f"$argon2id$v=19${cost}${salt}${digest}"


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _content(path: Path) -> tuple[os.stat_result, bytes]:
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UnreadFileError(f"The credentials file {path} is no regular file.")
            return status, file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise MissingFileError(f"The credentials file {path} cannot be read: {error.strerror}.") from error
    except OSError as error:
        raise UnreadFileError(f"The credentials file {path} cannot be read: {error.strerror}.") from error


def _open_at_once(path: str, flags: int) -> int:
    """Open what may be a pipe that nobody writes to, without waiting for somebody who does."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _lines(path: Path, content: bytes) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(split_lines(content), start=1):
        try:
            yield number, line.decode().removesuffix("\r")
        except UnicodeDecodeError as error:
            raise CredentialsFileError(f"Line {number} of {path} is not UTF-8.") from error


def _user(path: Path, number: int, line: str) -> User:
    """Read one line; what is wrong with it is told without showing it."""
    try:
        name, password_hash, scopes = _fields(line)
        check_name(name)
        _check_hash(password_hash)
        for scope in scopes:
            check_scope(scope)
    except CredentialsFileError as error:
        raise CredentialsFileError(f"Line {number} of {path} cannot be used. {error}") from error
    return User(name, password_hash, frozenset(scopes))


def _fields(line: str) -> tuple[str, str, list[str]]:
    fields = line.split(":")
    if len(fields) != 3:  # noqa: PLR2004 - as the sentence says
        raise CredentialsFileError("It should be name:hash:scopes.")
    return fields[0], fields[1], fields[2].split()


def _check_hash(password_hash: str) -> None:
    found = _HASH.fullmatch(password_hash)
    if found is None:
        raise CredentialsFileError("The hash should be one of argon2id, version 19.")
    kib, passes, lanes = (int(found[name]) for name in ("kib", "passes", "lanes"))
    if not (1 <= lanes <= _MOST_LANES and 8 * lanes <= kib <= _MOST_KIB and 1 <= passes <= _MOST_PASSES):
        raise CredentialsFileError(
            f"The hash should cost at most m={_MOST_KIB}, t={_MOST_PASSES}, p={_MOST_LANES}, and m at least 8 times p."
        )
    if not (_is_base64(found["salt"]) and _is_base64(found["digest"])):
        raise CredentialsFileError("The salt and the digest of the hash should be base64; one of them is cut off.")


def _is_base64(text: str) -> bool:
    """Whether text is the one way to write some bytes, as argon2 requires it."""
    try:
        content = b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return False
    return b64encode(content).decode().rstrip("=") == text
