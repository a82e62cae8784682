"""The sequencer over a storage that never tells whether it has kept a plan."""

from dataclasses import replace

from api_server.services.registry import ServiceRegistry
from throttling_sequencer.app import SEQUENCER
from throttling_sequencer.di.services import adjust_registry
from throttling_sequencer.domain.errors import OutcomeUnknownError
from throttling_sequencer.domain.stored_plan import AsyncStoredPlanRepository, StoredPlan
from throttling_sequencer.infrastructure.repositories.in_memory_stored_plan_repository import (
    InMemoryStoredPlanRepository,
)


class InDoubtRepository(InMemoryStoredPlanRepository):
    """Loses the answer to each plan that it is given."""

    async def add(self, plan: StoredPlan, *, within_s: float) -> StoredPlan:
        await super().add(plan, within_s=within_s)
        raise OutcomeUnknownError("the answer to COMMIT was lost")


def _register(registry: ServiceRegistry) -> None:
    adjust_registry(registry)
    registry.register_singleton(AsyncStoredPlanRepository, InDoubtRepository)


IN_DOUBT = replace(SEQUENCER, register=_register)
