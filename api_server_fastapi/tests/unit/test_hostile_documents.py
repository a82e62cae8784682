"""Documents that mean harm get an error, or a cheap answer, for little of the processor's time and without a trace."""

import time
from contextlib import aclosing

import pytest
from api_server.graphql.context import GraphQLContext
from api_server.graphql.documents import ValidDocuments
from api_server.graphql.schema import CodedErrorSchema
from api_server.services.registry import ServiceRegistry
from guarded_app import guarded_schema
from hostile_documents import ZOO, Hostile
from strawberry.schema.exceptions import CannotGetOperationTypeError
from structlog.testing import capture_logs

MOST_CPU_S = 0.05
LONGEST_ANSWER = 40_000


@pytest.fixture(scope="module")
def schema() -> CodedErrorSchema:
    return guarded_schema()


async def errors_of(schema: CodedErrorSchema, hostile: Hostile) -> list[object]:
    """Return what the client is told."""
    context = GraphQLContext(ServiceRegistry(), principal=None)
    if hostile.query.startswith("subscription"):
        async with aclosing(await schema.subscribe(hostile.query, context_value=context)) as results:
            result = await anext(results)
    else:
        try:
            result = await schema.execute(
                hostile.query, hostile.variables, context_value=context, operation_name=hostile.operation_name
            )
        except CannotGetOperationTypeError as error:
            return [error.as_http_error_reason()]
    return [error.formatted for error in result.errors or []]


@pytest.mark.parametrize("name", ZOO)
async def test_a_hostile_document_costs_little_and_gets_an_error(schema: CodedErrorSchema, name: str) -> None:
    hostile = ZOO[name]
    taken = []
    with capture_logs() as log:
        for _ in range(3):
            schema.documents = ValidDocuments()
            begun = time.thread_time()
            errors = await errors_of(schema, hostile)
            taken.append(time.thread_time() - begun)
            if taken[-1] <= MOST_CPU_S:
                break
    assert min(taken) <= MOST_CPU_S
    assert bool(errors) is not hostile.is_answered
    assert len(str(errors)) < LONGEST_ANSWER
    assert [line for line in log if line["log_level"] in ("error", "critical")] == []
