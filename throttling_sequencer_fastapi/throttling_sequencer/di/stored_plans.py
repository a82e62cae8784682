"""The composition of stored plans: where they are kept, and for how long that is tried."""

import structlog
import svcs
from api_server.identifiers import uuid7
from api_server.services.registry import ServiceRegistry

from throttling_sequencer.api.graphql.plan_reading import PlanReading
from throttling_sequencer.application.planning import Planning, PlanningLimits
from throttling_sequencer.application.stored_plans import StoredPlanEvents, StoredPlans
from throttling_sequencer.core.database_config import PiccoloDBConfig
from throttling_sequencer.core.settings import SequencerSettings
from throttling_sequencer.domain.stored_plan import AsyncStoredPlanRepository
from throttling_sequencer.infrastructure.repositories.in_memory_stored_plan_repository import (
    InMemoryStoredPlanRepository,
)
from throttling_sequencer.infrastructure.repositories.piccolo_stored_plan_repository import PiccoloStoredPlanRepository
from throttling_sequencer.infrastructure.stored_plan_events import LoggedStoredPlanEvents

log = structlog.get_logger("throttling_sequencer.di")


def register_stored_plans(registry: ServiceRegistry) -> None:
    """Register them over the repository that the settings name; without a database, over that in memory."""
    registry.register_singleton(AsyncStoredPlanRepository, _repository)
    registry.register_value(StoredPlanEvents, LoggedStoredPlanEvents())
    registry.register_singleton(StoredPlans, _stored_plans)
    # One for each operation, as everything that is no singleton.
    registry.register_factory(PlanReading, PlanReading)


def _repository(svcs_container: svcs.Container) -> AsyncStoredPlanRepository:
    if svcs_container.get(SequencerSettings).persistence == "memory":
        return InMemoryStoredPlanRepository()
    if not PiccoloDBConfig().host:
        log.warning("no database is configured: stored plans are kept in this process's memory")
        return InMemoryStoredPlanRepository()
    return PiccoloStoredPlanRepository()


def _stored_plans(svcs_container: svcs.Container) -> StoredPlans:
    from api_server.metrics import Metrics  # noqa: PLC0415 - a command line measures nothing

    from throttling_sequencer.infrastructure.measured_stored_plans import MeasuredStoredPlans  # noqa: PLC0415 - as above

    return StoredPlans(
        svcs_container.get(Planning),
        MeasuredStoredPlans(svcs_container.get(AsyncStoredPlanRepository), svcs_container.get(Metrics)),
        svcs_container.get(PlanningLimits),
        svcs_container.get(StoredPlanEvents),
        deadline_ms=svcs_container.get(SequencerSettings).store_deadline_ms,
        new_id=uuid7,
    )
