"""The request log as users see it: their own requests, page by page, and to an administrator everybody's."""

from collections.abc import Sequence
from dataclasses import dataclass

from throttling_sequencer.application.cursors import cursor_of, id_of
from throttling_sequencer.application.owners import listed_owner
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
    """Shows users their own requests, and administrators anybody's."""

    def __init__(self, repository: AsyncGqlRequestRepository) -> None:
        self._repository = repository

    async def page(
        self, first: int, after: str | None = None, *, asker: str, is_admin: bool = False, owner: str | None = None
    ) -> GqlRequestPage:
        """Return the `first` (1 to 100) newest requests of who asks, those after a cursor of an earlier page.

        `owner` names somebody else, or everybody by `*`. Raises NotAdminError, InvalidValueError for a size or a cursor
        that is none, StorageUnavailableError.
        """
        user_id = listed_owner(owner, asker=asker, is_admin=is_admin)
        require_between("first", first, 1, _MOST_IN_PAGE)
        before = None if after is None else id_of(after, "after")
        found = await self._repository.newest(user_id, first + 1, before)
        requests = found[:first]
        end_cursor = cursor_of(requests[-1].operation_id) if requests else None
        return GqlRequestPage(requests, end_cursor, has_next=len(found) > first)
