"""The stored plans of a process that keeps nothing when it ends."""

from collections import OrderedDict
from dataclasses import replace
from heapq import nlargest
from operator import attrgetter
from uuid import UUID

from throttling_sequencer.domain.stored_plan import StoredPlan, StoredPlanPage


class InMemoryStoredPlanRepository:
    """Keeps the last plans that it was given, up to `capacity` of them and `most_numbers` numbers in all.

    Each process has its own, and forgets keys with their plans.
    """

    def __init__(self, capacity: int = 10_000, most_numbers: int = 2_000_000) -> None:
        self._capacity = capacity
        self._most_numbers = most_numbers
        self._plans: OrderedDict[tuple[str, str], StoredPlan] = OrderedDict()
        self._numbers = 0

    async def add(self, plan: StoredPlan, *, within_s: float) -> StoredPlan:  # noqa: ARG002 - it never waits
        if (kept := self._found_again(plan.owner_id, plan.key)) is not None:
            return kept
        self._plans[plan.owner_id, plan.key] = plan
        self._numbers += plan.size
        while len(self._plans) > 1 and (len(self._plans) > self._capacity or self._numbers > self._most_numbers):
            _, oldest = self._plans.popitem(last=False)
            self._numbers -= oldest.size
        return plan

    async def find_again(self, owner_id: str, key: str, *, within_s: float) -> StoredPlan | None:  # noqa: ARG002 - as above
        return self._found_again(owner_id, key)

    async def get(self, owner_id: str | None, plan_id: UUID, *, within_s: float) -> StoredPlan | None:  # noqa: ARG002 - as above
        return next((plan for plan in self._of(owner_id) if plan.plan_id == plan_id), None)

    async def newest(
        self,
        owner_id: str | None,
        limit: int,
        before: UUID | None = None,
        *,
        most_numbers: int,
        within_s: float,  # noqa: ARG002 - as above
    ) -> StoredPlanPage:
        those = (plan for plan in self._of(owner_id) if before is None or plan.plan_id < before)
        found = nlargest(limit + 1, those, key=attrgetter("plan_id"))
        plans: list[StoredPlan] = []
        numbers = 0
        for plan in found[:limit]:
            numbers += plan.size
            if plans and numbers > most_numbers:
                break
            plans.append(plan)
        return StoredPlanPage(plans, has_next=len(plans) < len(found))

    def _found_again(self, owner_id: str, key: str) -> StoredPlan | None:
        kept = self._plans.get((owner_id, key))
        if kept is None:
            return None
        self._plans[owner_id, key] = again = replace(kept, attempts=kept.attempts + 1)
        return again

    def _of(self, owner_id: str | None) -> list[StoredPlan]:
        return [plan for plan in self._plans.values() if owner_id in (None, plan.owner_id)]
