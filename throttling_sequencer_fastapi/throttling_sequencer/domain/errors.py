"""Errors of the domain. They know no transport: each carries the code that clients see."""

from typing import ClassVar
from uuid import UUID


class InvalidValueError(ValueError):
    """A value breaks a rule of the domain; `field` is its path, such as `player_units[0].mass`."""

    code: ClassVar[str] = "INVALID_VALUE"

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} {rule}")
        self.field = field
        self.rule = rule

    def inside(self, parent: str) -> "InvalidValueError":
        """Return the same error about the same value, seen from the object that holds it."""
        return InvalidValueError(f"{parent}.{self.field}", self.rule)


class UnknownStrategyError(InvalidValueError):
    """There is no path finder of this name."""

    code: ClassVar[str] = "UNKNOWN_STRATEGY"

    def __init__(self, known: list[str]) -> None:
        super().__init__("strategy", f"should be one of {', '.join(known)}")


class StorageUnavailableError(Exception):
    """What is kept cannot be reached or used just now; `reason` is for operators."""

    code: ClassVar[str] = "STORAGE_UNAVAILABLE"
    retry_after_s = 1

    def __init__(self, reason: str) -> None:
        super().__init__("the storage cannot be used just now; try again")
        self.reason = reason


class OutcomeUnknownError(Exception):
    """Whether something was kept is not known; asking again by the same key finds out. `reason` is for operators."""

    code: ClassVar[str] = "OUTCOME_UNKNOWN"
    retry_after_s = 1

    def __init__(self, reason: str) -> None:
        super().__init__("it is not known whether this was kept; ask again by the same key")
        self.reason = reason


class IdempotencyKeyReusedError(InvalidValueError):
    """A key of an earlier request came with another one."""

    code: ClassVar[str] = "IDEMPOTENCY_KEY_REUSED"

    def __init__(self, field: str) -> None:
        super().__init__(field, "should be a new one: it is that of another request")


class PlanNotFoundError(Exception):
    """There is no such plan, or it is somebody else's, which looks the same."""

    code: ClassVar[str] = "NOT_FOUND"

    def __init__(self, plan_id: UUID) -> None:
        super().__init__(f"there is no plan {plan_id}")
