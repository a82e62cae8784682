"""The request log: which GraphQL operations were asked, by whom, and how they ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID

OPERATION_NAME_LIMIT = 255


class Outcome(StrEnum):
    """How an operation ended."""

    SUCCESS = "success"
    """It was answered in full."""
    FAILED = "failed"
    """It was executed, and an answer of it held errors."""
    REFUSED = "refused"
    """It was not executed: the document cannot be parsed, does not fit the schema, or is not served this way."""
    CANCELLED = "cancelled"
    """The client left, or wanted no more of it."""


@dataclass(frozen=True, slots=True)
class GqlRequest:
    """One GraphQL operation that ended.

    `operation_id` is its own, a UUID whose order is that of time; several operations of one socket share a
    `request_id`. `operation_name` is that of the operation that ran, None where it has none. `unix_time` is when it
    began, in seconds; `duration_ms` lasts to the end of the stream for a subscription.
    """

    operation_id: UUID
    request_id: str
    operation_name: str | None
    user_id: str
    unix_time: float
    duration_ms: float
    outcome: Outcome


class AsyncGqlRequestRepository(Protocol):
    """Keeps the request log. Each method raises StorageUnavailableError where the storage cannot be used just now."""

    async def add(self, requests: Sequence[GqlRequest]) -> None:
        """Keep these requests, all or none; one whose operation id is kept already stays as it is.

        So that a call whose outcome is unknown can be repeated.
        """
        ...

    async def newest(self, user_id: str | None, limit: int, before: UUID | None = None) -> list[GqlRequest]:
        """Return up to `limit` requests of a user, None for everybody's, newest first.

        Only those older than the operation `before`.
        """
        ...

    async def delete_older_than(self, unix_time: float) -> int:
        """Forget what began before this time, everybody's, and return how many requests that were."""
        ...
