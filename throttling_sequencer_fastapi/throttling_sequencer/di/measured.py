"""The composition of the sequencer's numbers that are read when somebody asks."""

from api_server.metrics import Metrics
from api_server.services.registry import ServiceRegistry

from throttling_sequencer.application.planning import PlanningLane
from throttling_sequencer.application.request_log import RecordGqlRequest
from throttling_sequencer.application.stored_plans import StoredPlans
from throttling_sequencer.infrastructure.lane import ProcessLane
from throttling_sequencer.infrastructure.measured_lane import measure_lane


def measure_sequencer(registry: ServiceRegistry) -> None:
    """Have read what the sequencer's services know of themselves."""
    metrics = registry.get(Metrics)
    measure_lane(metrics, registry.get(ProcessLane))
    # What they count is told from the start.
    registry.get(PlanningLane)
    registry.get(StoredPlans)
    request_log = registry.get(RecordGqlRequest)
    metrics.gauge("request_log_waiting", "Requests that wait to be logged.", lambda: request_log.waiting)
    metrics.gauge(
        "request_log_interrupted", "Workers whose request log cannot be written.", lambda: request_log.is_interrupted
    )
    metrics.follow("request_log_dropped", "Requests that were not logged.", lambda: request_log.dropped)
