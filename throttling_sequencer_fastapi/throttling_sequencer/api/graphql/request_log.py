"""The request log over GraphQL: what records each operation, and how users see theirs."""

import time
from asyncio import CancelledError
from collections.abc import Iterator
from typing import Annotated
from uuid import UUID

import strawberry
from api_server.graphql.context import GraphQLContext
from api_server.graphql.paging import PageInfo
from api_server.identifiers import uuid7
from graphql import get_operation_ast
from strawberry.extensions import SchemaExtension

from throttling_sequencer.api.graphql.owners import OwnerArgument, is_admin
from throttling_sequencer.application.request_history import ReadGqlRequests
from throttling_sequencer.application.request_log import RecordGqlRequest
from throttling_sequencer.domain.request_log import OPERATION_NAME_LIMIT, GqlRequest, Outcome


class RequestLog(SchemaExtension):
    """Records each operation when it ends, whatever it came by and however it ended."""

    _was_executed = False

    def on_operation(self) -> Iterator[None]:
        operation_id, unix_time, started = uuid7(), time.time(), time.perf_counter()
        outcome: Outcome | None = None
        try:
            yield
        except (CancelledError, GeneratorExit):
            # A socket closes the source of an operation that is over too, once it has sent the error.
            if not self.execution_context.pre_execution_errors:
                outcome = Outcome.CANCELLED
            raise
        except Exception:
            outcome = Outcome.FAILED if self._was_executed else Outcome.REFUSED
            raise
        finally:
            context: GraphQLContext = self.execution_context.context
            assert context.principal is not None, "who is not known is refused before an operation begins"
            context.services.get(RecordGqlRequest).record(
                GqlRequest(
                    operation_id=operation_id,
                    request_id=context.request_id,
                    operation_name=self._name(),
                    user_id=context.principal.user_id,
                    unix_time=unix_time,
                    duration_ms=(time.perf_counter() - started) * 1000,
                    outcome=outcome or self._outcome(),
                )
            )

    def on_execute(self) -> Iterator[None]:
        self._was_executed = True
        yield

    def _outcome(self) -> Outcome:
        result = self.execution_context.result
        if self.execution_context.pre_execution_errors or (result is not None and result.errors):
            return Outcome.FAILED if self._was_executed else Outcome.REFUSED
        return Outcome.SUCCESS

    def _name(self) -> str | None:
        """Return the name that the document gives to what ran; what a client says of it is not believed."""
        document = self.execution_context.graphql_document
        operation = document and get_operation_ast(document, self.execution_context.operation_name)
        return operation.name.value[:OPERATION_NAME_LIMIT] if operation and operation.name else None


strawberry.enum(Outcome, description="How an operation ended.")


@strawberry.type(name="GqlRequest", description="One GraphQL operation that ended.")
class GqlRequestType:
    """A request, as answered."""

    operation_id: UUID
    request_id: str = strawberry.field(description="The id of the HTTP request, or of the socket.")
    operation_name: str | None
    user_id: str
    unix_time: float = strawberry.field(description="When it began, in seconds.")
    duration_ms: float
    outcome: Outcome


@strawberry.type(name="GqlRequestPage", description="Requests, newest first.")
class GqlRequestPageType:
    """A page, as answered."""

    nodes: list[GqlRequestType]
    page_info: PageInfo


@strawberry.type
class RequestLogQuery:
    """What users can ask about what they asked."""

    @strawberry.field(
        description="Your own operations that ended, newest first, up to 100 a page; an administrator may see others'."
    )
    async def request_log(
        self,
        info: strawberry.Info[GraphQLContext],
        first: Annotated[int, strawberry.argument(description="How many, 1 to 100.")] = 20,
        after: Annotated[str | None, strawberry.argument(description="The endCursor of an earlier page.")] = None,
        owner: OwnerArgument = None,
    ) -> GqlRequestPageType:
        page = await info.context.services.get(ReadGqlRequests).page(
            first, after, asker=info.context.user_id, is_admin=is_admin(info), owner=owner
        )
        return GqlRequestPageType(
            nodes=[_shown(request) for request in page.requests],
            page_info=PageInfo(end_cursor=page.end_cursor, has_next_page=page.has_next),
        )


def _shown(request: GqlRequest) -> GqlRequestType:
    return GqlRequestType(
        operation_id=request.operation_id,
        request_id=request.request_id,
        operation_name=request.operation_name,
        user_id=request.user_id,
        unix_time=request.unix_time,
        duration_ms=request.duration_ms,
        outcome=request.outcome,
    )
