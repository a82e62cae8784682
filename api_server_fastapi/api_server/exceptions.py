"""Errors that the foundation raises. They know no HTTP: each class carries the code that clients see."""

from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable


class NotAuthenticatedError(Exception):
    """The credentials are missing or not accepted; `reason` may be shown to the client."""

    code: ClassVar[str] = "UNAUTHENTICATED"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InvalidQueryError(Exception):
    """A query parameter that may not stand where it stands."""

    code: ClassVar[str] = "INVALID_VALUE"

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} {rule}")
        self.field = field
        self.rule = rule


class StartError(Exception):
    """The program cannot start; the message says in sentences what to change."""


class SettingsError(StartError):
    """Environment variables that are unknown or hold a value that they may not; one sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@runtime_checkable
class CodedError(Protocol):
    """What an exception listed in `Application.errors` offers; its message is shown to clients."""

    code: ClassVar[str]


@runtime_checkable
class FieldError(Protocol):
    """An exception that names the input field at fault and the rule that it breaks."""

    field: str
    rule: str


@runtime_checkable
class RetryableError(Protocol):
    """An exception that knows after how many whole seconds another try makes sense."""

    retry_after_s: int
