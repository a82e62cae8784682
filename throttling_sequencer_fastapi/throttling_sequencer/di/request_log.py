"""The composition of the request log: where it is kept, who writes it, who shows it."""

import structlog
import svcs
from api_server.services.registry import ServiceRegistry

from throttling_sequencer.application.request_history import ReadGqlRequests
from throttling_sequencer.application.request_log import ForgetOldGqlRequests, RecordGqlRequest, RequestLogEvents
from throttling_sequencer.core.database_config import PiccoloDBConfig
from throttling_sequencer.core.settings import SequencerSettings
from throttling_sequencer.domain.request_log import AsyncGqlRequestRepository
from throttling_sequencer.infrastructure.repositories.in_memory_gql_request_repository import (
    InMemoryGqlRequestRepository,
)
from throttling_sequencer.infrastructure.repositories.piccolo_gql_request_repository import PiccoloGqlRequestRepository
from throttling_sequencer.infrastructure.request_log_events import LoggedRequestLogEvents

log = structlog.get_logger("throttling_sequencer.di")


def register_request_log(registry: ServiceRegistry) -> None:
    """Register it over the repository that the settings name; without a database, over that in memory."""
    registry.register_singleton(AsyncGqlRequestRepository, _repository)
    registry.register_value(RequestLogEvents, LoggedRequestLogEvents())
    registry.register_singleton(RecordGqlRequest, _record)
    registry.register_singleton(ForgetOldGqlRequests, _forget)
    registry.register_singleton(ReadGqlRequests, svcs.autowire(ReadGqlRequests))


def _repository(svcs_container: svcs.Container) -> AsyncGqlRequestRepository:
    if svcs_container.get(SequencerSettings).persistence == "memory":
        return InMemoryGqlRequestRepository()
    if not PiccoloDBConfig().host:
        log.warning("no database is configured: the request log is kept in this process's memory")
        return InMemoryGqlRequestRepository()
    return PiccoloGqlRequestRepository()


def _record(svcs_container: svcs.Container) -> RecordGqlRequest:
    return RecordGqlRequest(
        svcs_container.get(AsyncGqlRequestRepository),
        svcs_container.get(RequestLogEvents),
        svcs_container.get(SequencerSettings).request_log_waiting,
    )


def _forget(svcs_container: svcs.Container) -> ForgetOldGqlRequests:
    return ForgetOldGqlRequests(
        svcs_container.get(AsyncGqlRequestRepository),
        svcs_container.get(RequestLogEvents),
        svcs_container.get(SequencerSettings).request_log_days,
    )
