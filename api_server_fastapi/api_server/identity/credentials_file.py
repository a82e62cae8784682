"""The file of users that the identity `basic` believes: a line for each, `name:hash:scope scope …`."""

import os
import re
import secrets
import stat
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_MOST_BYTES = 2**20
_NAME = re.compile(r"[\w.@+-]{1,128}", re.ASCII)
_SCOPE = re.compile(r"[\x21\x23-\x39\x3b-\x5b\x5d-\x7e]{1,128}")  # RFC 6749's, without the colon
_HASH = re.compile(
    r"\$argon2id\$v=19\$m=(?P<kib>\d{1,7}),t=(?P<passes>\d{1,2}),p=(?P<lanes>\d{1,2})"
    r"\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{16,172}"
)
# What one guess may cost the service.
_MOST_KIB, _MOST_PASSES, _MOST_LANES = 256 * 1024, 16, 8
# OWASP's, for one lane: 19 MiB and a few hundredths of a second for each guess.
KIB, PASSES, LANES = 19 * 1024, 2, 1


class CredentialsFileError(Exception):
    """The file cannot be used; the message is a sentence that names it, and the line."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody of the file."""

    name: str
    password_hash: str = field(repr=False)
    scopes: frozenset[str] = frozenset()

    @property
    def line(self) -> str:
        """The line of the file that says this."""
        return f"{self.name}:{self.password_hash}:{' '.join(sorted(self.scopes))}"


@dataclass(frozen=True, slots=True)
class ReadFile:
    """The users of a file as it was once, the stamp by which a change is noticed, and who else may read it."""

    users: Mapping[str, User]
    stamp: tuple[int, ...]
    is_open_to_others: bool


def stamp_of(path: Path) -> tuple[int, ...] | None:
    """Return what differs once a file has changed, None where there is no such file."""
    try:
        return _stamp(path.stat())
    except OSError:
        return None


def read_credentials(path: Path) -> ReadFile:
    """Read the users of a file. Raises CredentialsFileError."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise CredentialsFileError(f"The credentials file {path} cannot be read: {error.strerror}.") from error
    if len(content) > _MOST_BYTES:
        raise CredentialsFileError(f"The credentials file {path} is larger than {_MOST_BYTES} bytes.")
    users: dict[str, User] = {}
    for number, line in _lines(path, content):
        if line.strip() and not line.startswith("#"):
            user = _user(path, number, line)
            if user.name in users:
                raise CredentialsFileError(f"Line {number} of {path} names {user.name}, as a line before it does.")
            users[user.name] = user
    return ReadFile(users, _stamp(status), is_open_to_others=bool(status.st_mode & stat.S_IRWXO))


def put_user(path: Path, user: User) -> bool:
    """Write a user into a file, instead of the one with that name; return whether there was one.

    Everything else of the file stays. Raises CredentialsFileError.
    """
    lines, kept = _all_but(path, user.name)
    _write(path, [*kept, user.line])
    return len(kept) < len(lines)


def remove_user(path: Path, name: str) -> bool:
    """Take a user out of a file; return whether there was one. Raises CredentialsFileError."""
    lines, kept = _all_but(path, name)
    if len(kept) == len(lines):
        return False
    _write(path, kept)
    return True


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
    costs = [user.password_hash.split("$")[3] for user in users.values()]
    cost = max(costs, key=costs.count, default=f"m={KIB},t={PASSES},p={LANES}")
    salt, digest = (b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
    return f"$argon2id$v=19${cost}${salt}${digest}"


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _lines(path: Path, content: bytes) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(content.split(b"\n"), start=1):
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


def _all_but(path: Path, name: str) -> tuple[list[str], list[str]]:
    """Return the lines of a file, and those that are not this user's."""
    if not path.exists():
        return [], []
    read_credentials(path)  # A file that cannot be used is not made worse.
    lines = path.read_text().removesuffix("\n").split("\n")
    return lines, [line for line in lines if line.partition(":")[0] != name]


def _write(path: Path, lines: Sequence[str]) -> None:
    """Write the file as a whole or not at all: a service may read it at any moment."""
    target = path.resolve()
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.writelines(f"{line}\n" for line in lines)
                _keep_owner(target, file.fileno())
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CredentialsFileError(f"The credentials file {path} cannot be written: {error.strerror}.") from error


def _keep_owner(target: Path, descriptor: int) -> None:
    """Let those read the new file who might read the old one, but for strangers; a first one only who writes it."""
    if not hasattr(os, "fchown"):  # Windows has neither owners nor modes of this kind
        return
    with suppress(FileNotFoundError):
        status = target.stat()
        with suppress(PermissionError):
            os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & 0o660)
