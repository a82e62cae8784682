"""Errors that the foundation raises. They know no HTTP: each class carries the code that clients see."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from api_server.validation import FieldProblem


class NotAuthenticatedError(Exception):
    """The credentials are missing or not accepted; `reason` may be shown to the client."""

    code: ClassVar[str] = "UNAUTHENTICATED"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotAllowedError(Exception):
    """Who asks is known, and may not do this."""

    code: ClassVar[str] = "FORBIDDEN"

    def __init__(self, scope: str) -> None:
        super().__init__(f"this needs the scope {scope}")
        self.scope = scope


class InvalidValueError(ValueError):
    """A value breaks a rule; `field` is its path."""

    code: ClassVar[str] = "INVALID_VALUE"

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} {rule}")
        self.field = field
        self.rule = rule


class InvalidFieldsError(Exception):
    """Several values break rules: each problem has a `field`, which is a path, and a `rule`."""

    code: ClassVar[str] = "INVALID_VALUE"

    def __init__(self, problems: "Sequence[FieldProblem]") -> None:
        super().__init__("; ".join(f"{problem['field']} {problem['rule']}" for problem in problems))
        self.problems = tuple(problems)


class ResourceNotFoundError(Exception):
    """There is no such resource, or it is somebody else's, which looks the same."""

    code: ClassVar[str] = "NOT_FOUND"

    def __init__(self, resource: str, key: object) -> None:
        super().__init__(f"there is no {resource} {key}")
        self.resource = resource
        self.key = str(key)


class ResourceExistsError(Exception):
    """What identifies a resource is taken by another one."""

    code: ClassVar[str] = "ALREADY_EXISTS"

    def __init__(self, resource: str, key: object) -> None:
        super().__init__(f"there is a {resource} {key} already")
        self.resource = resource
        self.key = str(key)


class VersionConflictError(Exception):
    """Someone else changed the resource since it was read."""

    code: ClassVar[str] = "VERSION_CONFLICT"

    def __init__(self, expected_version: int, current_version: int) -> None:
        super().__init__(f"expected version {expected_version}, found {current_version}: read it again")
        self.expected_version = expected_version
        self.current_version = current_version


class DatabaseUnavailableError(Exception):
    """The database cannot be reached or used just now; `reason` is for operators."""

    code: ClassVar[str] = "DATABASE_UNAVAILABLE"
    retry_after_s = 1

    def __init__(self, reason: str) -> None:
        super().__init__("the database cannot be used just now; try again")
        self.reason = reason


class IdentityUnavailableError(Exception):
    """Who asks cannot be told just now; `reason` is for operators."""

    code: ClassVar[str] = "IDENTITY_UNAVAILABLE"
    retry_after_s = 1

    def __init__(self, reason: str) -> None:
        super().__init__("it cannot be told just now who asks; try again")
        self.reason = reason


class TooManyRequestsError(Exception):
    """Somebody asks for more than they may; `reason` may be shown to them."""

    code: ClassVar[str] = "RATE_LIMITED"

    def __init__(self, reason: str, retry_after_s: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


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
class FieldsError(Protocol):
    """An exception about several input fields."""

    problems: "Sequence[FieldProblem]"


@runtime_checkable
class RetryableError(Protocol):
    """An exception that knows after how many whole seconds another try makes sense."""

    retry_after_s: int
