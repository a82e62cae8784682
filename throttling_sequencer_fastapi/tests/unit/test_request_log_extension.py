"""What is recorded of an operation: when it began, how long it took, what it is called, how it ended."""

import asyncio
import time
from collections.abc import AsyncGenerator
from types import SimpleNamespace

import pytest
import strawberry
from api_server.graphql.context import GraphQLContext
from api_server.graphql.part import GraphQLPart
from api_server.graphql.schema import CodedErrorSchema, build_schema
from api_server.identity import Principal
from api_server.services.registry import ServiceRegistry
from structlog.testing import capture_logs
from throttling_sequencer.api.graphql.request_log import RequestLog
from throttling_sequencer.application.request_log import RecordGqlRequest
from throttling_sequencer.domain.request_log import GqlRequest, Outcome


@strawberry.type
class Query:
    @strawberry.field
    async def slow(self) -> int:
        await asyncio.sleep(0.1)
        return 1

    @strawberry.field
    async def broken(self) -> int | None:
        raise RuntimeError("no")


@strawberry.type
class Number:
    value: int

    @strawberry.field
    def broken(self) -> int | None:
        raise RuntimeError("no")


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def numbers(self) -> AsyncGenerator[Number, None]:
        for value in range(3):
            await asyncio.sleep(0)
            yield Number(value=value)


recorded: list[GqlRequest] = []


@pytest.fixture
def schema() -> CodedErrorSchema:
    recorded.clear()
    part = GraphQLPart(query=Query, subscription=Subscription, extensions=(RequestLog,))
    return build_schema([part], visible_errors=())


@pytest.fixture
def context() -> GraphQLContext:
    registry = ServiceRegistry()
    registry.register_value(RecordGqlRequest, SimpleNamespace(record=recorded.append))
    context = GraphQLContext(registry, Principal("alice", frozenset()))
    context.request = SimpleNamespace(state=SimpleNamespace(request_id="r1"))  # type: ignore[assignment]
    return context


async def test_times_are_those_of_the_beginning_and_of_all_of_it(
    schema: CodedErrorSchema, context: GraphQLContext
) -> None:
    before = time.time()
    await schema.execute("query Slow { slow }", context_value=context)
    (request,) = recorded
    assert before <= request.unix_time < before + 0.05
    assert request.operation_id.int >> 80 == pytest.approx(request.unix_time * 1000, abs=5)
    assert 100 <= request.duration_ms < 1000
    assert (request.operation_name, request.user_id, request.request_id) == ("Slow", "alice", "r1")
    assert request.outcome is Outcome.SUCCESS


async def test_a_name_of_any_length_can_be_kept(schema: CodedErrorSchema, context: GraphQLContext) -> None:
    await schema.execute(f"query {'N' * 1000} {{ slow }}", context_value=context)
    assert recorded[0].operation_name == "N" * 255


@pytest.mark.parametrize("query", ["query { slow broken }", "subscription { numbers { value broken } }"])
async def test_an_answer_that_holds_an_error_is_a_failure(
    schema: CodedErrorSchema, context: GraphQLContext, query: str
) -> None:
    # Nobody reads the log: a traceback that is laid out for a terminal takes longer than the loop may wait.
    with capture_logs():
        async for _ in await schema.stream(query, context_value=context):
            pass
    assert [request.outcome for request in recorded] == [Outcome.FAILED]


async def test_a_stream_that_is_left_is_cancelled_and_one_that_ends_is_not(
    schema: CodedErrorSchema, context: GraphQLContext
) -> None:
    for length in (1, 3):
        stream = await schema.subscribe("subscription { numbers { value } }", context_value=context)
        for _ in range(length):
            await anext(stream)
        if length == 3:
            assert [result async for result in stream] == []
        await stream.aclose()
    assert [request.outcome for request in recorded] == [Outcome.CANCELLED, Outcome.SUCCESS]
