"""Operations as spans."""

from asyncio import CancelledError
from collections.abc import Iterator

from graphql import get_operation_ast
from starlette.websockets import WebSocket
from strawberry.extensions import SchemaExtension

from api_server.telemetry import Span, Tracer

_NAME_LIMIT = 64

tracer = Tracer("api_server")


class TracedOperation(SchemaExtension):
    """Makes a span of each operation: which kind, the name that its document gives it, and how it ended.

    Over HTTP it is part of the request's trace. On a socket, which may stay for days, each begins a trace of its own
    that is linked to the socket's.
    """

    _was_executed = False

    def on_operation(self) -> Iterator[None]:
        is_on_socket = isinstance(self.execution_context.context.request, WebSocket)
        begin = tracer.trace if is_on_socket else tracer.span
        with begin("graphql") as span:
            try:
                yield
            except (CancelledError, GeneratorExit):
                # A socket closes the source of an operation that is over too, once it has sent the error.
                self._describe(span, None if self.execution_context.pre_execution_errors else "cancelled")
                raise
            except Exception:
                self._describe(span, "failed")
                raise
            self._describe(span)

    def on_execute(self) -> Iterator[None]:
        self._was_executed = True
        yield

    def _describe(self, span: Span, outcome: str | None = None) -> None:
        if not span.is_recorded:
            return
        span.set(outcome=outcome or self._outcome())
        document = self.execution_context.graphql_document
        operation = get_operation_ast(document, self.execution_context.operation_name) if document else None
        if operation is None:
            return
        kind = operation.operation.value
        span.rename(f"graphql {kind}")
        span.set(**{"graphql.operation.type": kind})
        if operation.name is not None:
            span.set(**{"graphql.operation.name": operation.name.value[:_NAME_LIMIT]})

    def _outcome(self) -> str:
        result = self.execution_context.result
        if self.execution_context.pre_execution_errors or (result is not None and result.errors):
            return "failed" if self._was_executed else "refused"
        return "success"
