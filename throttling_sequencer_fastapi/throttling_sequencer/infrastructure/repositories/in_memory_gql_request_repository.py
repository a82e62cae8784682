"""The request log of a process that keeps nothing when it ends."""

from collections import OrderedDict
from collections.abc import Sequence
from heapq import nlargest
from operator import attrgetter
from uuid import UUID

from throttling_sequencer.domain.request_log import GqlRequest


class InMemoryGqlRequestRepository:
    """Keeps the last `capacity` requests that it was given; each process has its own."""

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._requests: OrderedDict[UUID, GqlRequest] = OrderedDict()

    async def add(self, requests: Sequence[GqlRequest]) -> None:
        for request in requests:
            self._requests.setdefault(request.operation_id, request)
        while len(self._requests) > self._capacity:
            self._requests.popitem(last=False)

    async def newest(self, user_id: str | None, limit: int, before: UUID | None = None) -> list[GqlRequest]:
        found = (
            request
            for request in self._requests.values()
            if user_id in (None, request.user_id) and (before is None or request.operation_id < before)
        )
        return nlargest(limit, found, key=attrgetter("operation_id"))

    async def delete_older_than(self, unix_time: float) -> int:
        old = [key for key, request in self._requests.items() if request.unix_time < unix_time]
        for key in old:
            del self._requests[key]
        return len(old)
