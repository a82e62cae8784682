"""The sequencer's stage of the readiness pipeline."""

from collections.abc import Sequence

from api_server.readiness_pipeline import ReadinessStage
from api_server.services.di import get_registry

from throttling_sequencer.application.request_log import RecordGqlRequest
from throttling_sequencer.domain.request_log import AsyncGqlRequestRepository
from throttling_sequencer.domain.stored_plan import AsyncStoredPlanRepository
from throttling_sequencer.infrastructure.lane import ProcessLane
from throttling_sequencer.infrastructure.readiness_checks import DatabasePoolCheck, LaneCheck, RequestLogCheck
from throttling_sequencer.infrastructure.repositories.in_memory_gql_request_repository import (
    InMemoryGqlRequestRepository,
)
from throttling_sequencer.infrastructure.stored_plans_check import StoredPlansCheck


def readiness_stages() -> Sequence[ReadinessStage]:
    """Return the stage that looks at what the sequencer adds to the foundation."""
    registry = get_registry()
    is_in_memory = isinstance(registry.get(AsyncGqlRequestRepository), InMemoryGqlRequestRepository)
    return (
        ReadinessStage(
            "sequencer",
            (
                DatabasePoolCheck(),
                LaneCheck(registry.get(ProcessLane)),
                RequestLogCheck(registry.get(RecordGqlRequest), is_in_memory=is_in_memory),
                StoredPlansCheck(registry.get(AsyncStoredPlanRepository)),
            ),
        ),
    )
