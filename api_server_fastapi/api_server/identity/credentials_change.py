"""How the file of users is changed: as a whole or not at all, by one at a time."""

import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from api_server.identity.credentials_file import CredentialsFileError, MissingFileError, User, read_credentials


def put_user(path: Path, user: User) -> bool:
    """Write a user into a file, instead of the one with that name; return whether there was one.

    Everything else of the file stays. Raises CredentialsFileError.
    """
    with _alone(path):
        users, lines = _users_and_lines(path)
        _write(path, [*_without(lines, user.name), user.line.encode()])
        return user.name in users


def remove_user(path: Path, name: str) -> bool:
    """Take a user out of a file; return whether there was one. Raises CredentialsFileError."""
    with _alone(path):
        users, lines = _users_and_lines(path)
        if name in users:
            _write(path, _without(lines, name))
        return name in users


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep others who change a file of this folder waiting: what they read before would undo what is written now."""
    if sys.platform == "win32":
        yield
        return
    import fcntl  # noqa: PLC0415 - not everywhere

    try:
        # The file itself is replaced, and with it a lock on it.
        folder = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise CredentialsFileError(f"The credentials file {path} cannot be changed: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
        except OSError as error:
            reason = f"its folder cannot be locked: {error.strerror}"
            raise CredentialsFileError(f"The credentials file {path} cannot be changed, {reason}.") from error
        yield
    finally:
        os.close(folder)


def _users_and_lines(path: Path) -> tuple[frozenset[str], tuple[bytes, ...]]:
    """Read what there is; a file that cannot be used is not made worse."""
    try:
        read = read_credentials(path)
    except MissingFileError:
        return frozenset(), ()
    return frozenset(read.users), read.lines


def _without(lines: Sequence[bytes], name: str) -> list[bytes]:
    return [line for line in lines if line.partition(b":")[0] != name.encode()]


def _write(path: Path, lines: Sequence[bytes]) -> None:
    """Write the file as a whole or not at all: a service may read it at any moment."""
    target = path.resolve()
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(line + b"\n" for line in lines)
                _keep_owner(path, target, file.fileno())
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CredentialsFileError(f"The credentials file {path} cannot be written: {error.strerror}.") from error


def _keep_owner(path: Path, target: Path, descriptor: int) -> None:
    """Let those read the new file who might read the old one, but for strangers; a first one only who writes it."""
    if sys.platform == "win32":  # it has neither owners nor modes of this kind
        return
    with suppress(FileNotFoundError):
        status = target.stat()
        owner = _owner(status)
        if owner != _owner(os.fstat(descriptor)):
            try:
                os.fchown(descriptor, *owner)
            except PermissionError as error:
                raise CredentialsFileError(
                    f"The credentials file {path} is that of user {owner[0]} and group {owner[1]}, which only root or "
                    "they themselves can keep so: the service could not read the changed one."
                ) from error
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & 0o660)


def _owner(status: os.stat_result) -> tuple[int, int]:
    return status.st_uid, status.st_gid
