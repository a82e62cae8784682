"""Whether plans that are promised to stay do."""

from api_server.readiness_pipeline import ReadinessCheck, ReadinessCheckResult

from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.domain.stored_plan import AsyncStoredPlanRepository
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.tables import Plan
from throttling_sequencer.infrastructure.db.storage import using_storage
from throttling_sequencer.infrastructure.repositories.in_memory_stored_plan_repository import (
    InMemoryStoredPlanRepository,
)

_TIMEOUT_S = 2.5
# Planned only, which takes the rights that writing takes.
_LOOK = "EXPLAIN UPDATE throttling_sequencer.plan SET attempts = attempts WHERE false"


class StoredPlansCheck(ReadinessCheck):
    """Succeeds where there is a table that plans can be kept in; whether its server takes writes the pool's says."""

    def __init__(self, repository: AsyncStoredPlanRepository) -> None:
        super().__init__("stored_plans")
        self._is_in_memory = isinstance(repository, InMemoryStoredPlanRepository)

    async def _execute(self) -> ReadinessCheckResult:
        if self._is_in_memory:
            return self.not_applicable("they are kept in this process's memory, the last ones only, until it ends")
        if DB.pool is None:
            return self.not_applicable("there is no pool in this process")
        try:
            async with using_storage(_TIMEOUT_S):
                await Plan.raw(_LOOK)
        except StorageUnavailableError as error:
            return self.failed("they cannot be kept", {"error": error.reason})
        return self.success("they are kept in the database")
