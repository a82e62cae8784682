"""Whether plans that are promised to stay do."""

from api_server.readiness_pipeline import ReadinessCheck, ReadinessCheckResult

from throttling_sequencer.domain.stored_plan import AsyncStoredPlanRepository
from throttling_sequencer.infrastructure.repositories.in_memory_stored_plan_repository import (
    InMemoryStoredPlanRepository,
)


class StoredPlansCheck(ReadinessCheck):
    """Says where plans are kept; whether a database takes them is said by the check of the pool."""

    def __init__(self, repository: AsyncStoredPlanRepository) -> None:
        super().__init__("stored_plans")
        self._is_in_memory = isinstance(repository, InMemoryStoredPlanRepository)

    async def _execute(self) -> ReadinessCheckResult:
        if self._is_in_memory:
            return self.not_applicable("they are kept in this process's memory, the last ones only, until it ends")
        return self.success("they are kept in the database")
