"""What an error met on the way to the database, or there, means for who meets it."""

from typing import TypeAlias

import asyncpg

# Whatever a server, a socket, or asyncpg between them may raise; TimeoutError is an OSError.
DATABASE_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

_Prefixes: TypeAlias = tuple[str, ...]

# Classes of SQLSTATE that are about the values given: data exception, integrity constraint violation. Whatever else a
# server says, of a password, a missing database or table, a role's rights, may be mended while the values wait.
_ABOUT_THE_VALUES: _Prefixes = ("22", "23")

# The connection is lost; the server is about to stop, was killed, or is not yet ready; it takes no writes (any more).
_LOST: _Prefixes = ("08", "57P01", "57P02", "57P03", "25006")

# Besides: a statement was cancelled for its time, there are too many connections, others were in the way, or a
# connection was ended for its own time, while idle (in a transaction or not) or in a transaction that was too long.
_PASSING: _Prefixes = (*_LOST, "57014", "53300", "40001", "40P01", "55P03", "25P03", "25P04", "57P05")

# Who wants to connect is turned away, while who is connected may stay: no place is free, or the server stops.
_FULL: _Prefixes = ("53300",)
_NO_ROOM: _Prefixes = (*_FULL, "57P03")

# Nothing that who connects can wait for: wrong credentials, no such database.
_LASTING: _Prefixes = ("28", "3D")

# What makes the server roll back, and not commit, when it is asked to commit. "40003" says that it does not know;
# a transaction that was too long may have been so while it was committed.
_ROLLED_BACK: _Prefixes = ("22", "23", "25", "40", "42", "P0")
_UNKNOWN: _Prefixes = ("40003", "25P04")


class CommitInDoubtError(Exception):
    """A COMMIT was sent, and it is not known whether what it committed will stay; `reason` is for operators."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"it is not known whether the transaction was committed: {reason}")
        self.reason = reason


def says_unavailable(error: Exception) -> bool:
    """Whether an error of asyncpg or of a socket is about the storage, and not about the values that it was given."""
    if isinstance(error, asyncpg.PostgresError):
        return not _sqlstate(error).startswith(_ABOUT_THE_VALUES)
    # What asyncpg says of values that it was given is a ValueError too.
    return not isinstance(error, ValueError)


def is_worth_another_try(error: BaseException) -> bool:
    """Whether the same may succeed a moment later, with nothing done about it."""
    if isinstance(error, asyncpg.PostgresError):
        return _sqlstate(error).startswith(_PASSING)
    return isinstance(error, (CommitInDoubtError, *DATABASE_ERRORS)) and not isinstance(error, ValueError)


def says_lost(error: BaseException) -> bool:
    """Whether the server, or the connection to it, can be used no longer, so that others to it are not to be used."""
    if isinstance(error, CommitInDoubtError):
        return error.__cause__ is not None and says_lost(error.__cause__)
    if isinstance(error, asyncpg.PostgresError):
        return _sqlstate(error).startswith(_LOST)
    # No answer in time may be a matter of one statement.
    return is_worth_another_try(error) and not isinstance(error, TimeoutError)


def says_no_room(error: Exception) -> bool:
    """Whether a server turns away who wants to connect, while those who are connected may go on."""
    return _sqlstate(error).startswith(_NO_ROOM)


def is_full_house(error: Exception) -> bool:
    """Whether a server has as many connections as it may."""
    return _sqlstate(error).startswith(_FULL)


def is_lasting(error: Exception) -> bool:
    """Whether to connect again would meet the same error, until somebody mends something."""
    return isinstance(error, ValueError) or _sqlstate(error).startswith(_LASTING)


def was_rolled_back(error: Exception) -> bool:
    """Whether this answer to a COMMIT says for certain that nothing was committed."""
    sqlstate = _sqlstate(error) if isinstance(error, asyncpg.PostgresError) else ""
    return sqlstate.startswith(_ROLLED_BACK) and not sqlstate.startswith(_UNKNOWN)


def in_words(error: Exception) -> str:
    """Say an error in a line, for operators."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return f"{type(error).__name__}: {error}"


def _sqlstate(error: BaseException) -> str:
    return getattr(error, "sqlstate", None) or ""
