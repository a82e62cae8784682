"""Stored plans as numbers."""

from uuid import UUID

from api_server.metrics import Metrics

from throttling_sequencer.domain.errors import OutcomeUnknownError, StorageUnavailableError
from throttling_sequencer.domain.stored_plan import AsyncStoredPlanRepository, StoredPlan, StoredPlanPage


class MeasuredStoredPlans:
    """Counts what comes of keeping plans.

    They are `kept` once and `replayed` for every further request by the same key; `not_kept` for certain, or
    `in_doubt`.
    """

    def __init__(self, repository: AsyncStoredPlanRepository, metrics: Metrics) -> None:
        self._repository = repository
        self._outcomes = metrics.counter("stored_plans", "Plans to be kept, by what came of it.", "outcome")
        for outcome in ("kept", "replayed", "not_kept", "in_doubt"):
            # Whoever asks how fast they grow has to see them at 0.
            self._outcomes.labels(outcome)

    async def add(self, plan: StoredPlan, *, within_s: float) -> StoredPlan:
        """Keep a plan."""
        try:
            kept = await self._repository.add(plan, within_s=within_s)
        except StorageUnavailableError:
            self._count("not_kept")
            raise
        except OutcomeUnknownError:
            self._count("in_doubt")
            raise
        self._count("kept" if kept.plan_id == plan.plan_id else "replayed")
        return kept

    async def find_again(self, owner_id: str, key: str, *, within_s: float) -> StoredPlan | None:
        """Return the plan that an owner has under a key."""
        found = await self._repository.find_again(owner_id, key, within_s=within_s)
        if found is not None:
            self._count("replayed")
        return found

    async def get(self, owner_id: str | None, plan_id: UUID, *, within_s: float) -> StoredPlan | None:
        """Return a plan of an owner."""
        return await self._repository.get(owner_id, plan_id, within_s=within_s)

    async def newest(
        self, owner_id: str | None, limit: int, before: UUID | None = None, *, most_numbers: int, within_s: float
    ) -> StoredPlanPage:
        """Return plans of an owner."""
        return await self._repository.newest(owner_id, limit, before, most_numbers=most_numbers, within_s=within_s)

    def _count(self, outcome: str) -> None:
        self._outcomes.labels(outcome).inc()
