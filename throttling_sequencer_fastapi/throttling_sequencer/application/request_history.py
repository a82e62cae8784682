"""The request log as users see it: their own requests, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass

from throttling_sequencer.application.cursors import cursor_of, id_of
from throttling_sequencer.domain.request_log import AsyncGqlRequestRepository, GqlRequest
from throttling_sequencer.domain.rules import require_between

_MOST_IN_PAGE = 100


@dataclass(frozen=True, slots=True)
class GqlRequestPage:
    """Some requests, newest first, and the cursor of the last one where there are more."""

    requests: Sequence[GqlRequest]
    end_cursor: str | None
    has_next: bool


class ReadGqlRequests:
    """Shows users their own requests."""

    def __init__(self, repository: AsyncGqlRequestRepository) -> None:
        self._repository = repository

    async def page(self, user_id: str, first: int, after: str | None = None) -> GqlRequestPage:
        """Return the `first` (1 to 100) newest requests of a user, those after a cursor of an earlier page.

        Raises InvalidValueError for a size or a cursor that is none, StorageUnavailableError.
        """
        require_between("first", first, 1, _MOST_IN_PAGE)
        before = None if after is None else id_of(after, "after")
        found = await self._repository.newest(user_id, first + 1, before)
        requests = found[:first]
        end_cursor = cursor_of(requests[-1].operation_id) if requests else None
        return GqlRequestPage(requests, end_cursor, has_next=len(found) > first)
