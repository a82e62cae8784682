"""The numbers of GraphQL."""

import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_WS_PROTOCOL

from api_server.graphql.documents import ValidDocuments
from api_server.graphql.guard import LIMIT_EXCEEDED
from api_server.graphql.open_sockets import OpenSockets
from api_server.metrics import Metrics
from api_server.services.di import get_operation_numbers
from api_server.services.measured import OperationNumbers, OperationOutcome

_UNKNOWN = "unknown"
_PROTOCOLS = (GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_WS_PROTOCOL, "sse")


class MeasuredOperation(SchemaExtension):
    """Counts each operation when it ends, whatever it came by and however it ended."""

    _was_executed = False

    def on_operation(self) -> Iterator[None]:
        numbers = get_operation_numbers()
        outcome: OperationOutcome | None = None
        numbers.running += 1
        started = time.perf_counter()
        try:
            yield
        except (CancelledError, GeneratorExit):
            # A socket closes the source of an operation that is over too, once it has sent the error.
            if not self.execution_context.pre_execution_errors:
                outcome = OperationOutcome.CANCELLED
            raise
        except Exception:
            outcome = OperationOutcome.REFUSED
            raise
        finally:
            numbers.running -= 1
            numbers.ended(self._kind(), outcome or self._outcome(), time.perf_counter() - started)
            for error in self._errors():
                _count(numbers, error.extensions or {})

    def on_execute(self) -> Iterator[None]:
        self._was_executed = True
        yield

    def _kind(self) -> str:
        if self.execution_context.graphql_document is None:
            return _UNKNOWN
        try:
            return str(self.execution_context.operation_type.value)
        except RuntimeError:
            # The document has no such operation.
            return _UNKNOWN

    def _errors(self) -> Sequence[GraphQLError]:
        result = self.execution_context.result
        return self.execution_context.pre_execution_errors or (result.errors if result is not None else None) or ()

    def _outcome(self) -> OperationOutcome:
        if not self._errors():
            return OperationOutcome.SUCCESS
        return OperationOutcome.FAILED if self._was_executed else OperationOutcome.REFUSED


def measure_graphql(metrics: Metrics, documents: ValidDocuments, sockets: OpenSockets) -> None:
    """Have read what is known of documents, and of who is connected."""
    name, description = "graphql_document_cache", "Documents that were known to be valid, and those that were not."
    metrics.follow(name, description, lambda: documents.hits, result="hit")
    metrics.follow(name, description, lambda: documents.misses, result="miss")
    for protocol in _PROTOCOLS:
        metrics.gauge(
            "graphql_sockets", "Sockets and event streams that are open.", _of(sockets, protocol), protocol=protocol
        )
    metrics.gauge("graphql_subscriptions", "Operations that run on them.", lambda: sockets.operations)


def _of(sockets: OpenSockets, protocol: str) -> Callable[[], float]:
    return lambda: sockets.sockets(protocol)


def _count(numbers: OperationNumbers, told: Mapping[str, Any]) -> None:
    """Count an error by what a client is told of it beside its message."""
    code = told.get("code")
    numbers.failed(code)
    if code == LIMIT_EXCEEDED:
        numbers.asked_too_much(str(told.get("limit")))
