"""A document that was valid once is not parsed and validated again; the schema answers as if it were."""

import pytest
import strawberry
from api_server.graphql import documents
from api_server.graphql.context import GraphQLContext
from api_server.graphql.part import GraphQLPart
from api_server.graphql.schema import CodedErrorSchema, build_schema
from api_server.services.registry import ServiceRegistry
from strawberry.schema import schema as strawberry_schema


@strawberry.type
class Query:
    @strawberry.field
    def twice(self, number: int) -> int:
        return 2 * number


@pytest.fixture
def schema() -> CodedErrorSchema:
    return build_schema([GraphQLPart(query=Query)], visible_errors=())


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was parsed and validated."""
    work: list[str] = []

    def counting(name: str) -> None:
        original = getattr(strawberry_schema, name)

        def counted(*args: object, **kwargs: object) -> object:
            work.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(strawberry_schema, name, counted)

    counting("parse")
    counting("validate_document")
    return work


async def ask(schema: CodedErrorSchema, query: str, **variables: object) -> dict[str, object]:
    context = GraphQLContext(ServiceRegistry(), principal=None)
    result = await schema.execute(query, variable_values=variables, context_value=context)
    return {"data": result.data, "errors": [error.formatted for error in result.errors or []]}


QUERY = "query($number: Int!) { twice(number: $number) }"


async def test_a_document_is_worked_on_once_whatever_its_variables(schema: CodedErrorSchema, worked: list[str]) -> None:
    answers = [await ask(schema, QUERY, number=number) for number in range(3)]
    assert [answer["data"] for answer in answers] == [{"twice": 0}, {"twice": 2}, {"twice": 4}]
    assert worked == ["parse", "validate_document"]


async def test_what_is_not_valid_is_told_each_time(schema: CodedErrorSchema, worked: list[str]) -> None:
    for query, code in (("{ thrice }", "GRAPHQL_VALIDATION_FAILED"), ("{", "GRAPHQL_PARSE_FAILED")):
        first, second = [await ask(schema, query) for _ in range(2)]
        assert first == second
        assert first["errors"][0]["extensions"] == {"code": code}  # type: ignore[index]
    assert worked == ["parse", "validate_document"] * 2 + ["parse"] * 2


async def test_only_so_many_and_only_short_documents_are_held(
    schema: CodedErrorSchema, worked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_MOST_DOCUMENTS", 2)
    queries = [f"{{ a{number}: twice(number: {number}) }}" for number in range(3)]
    for query in (*queries, queries[0]):
        await ask(schema, query)
    assert worked.count("parse") == 4
    await ask(schema, queries[2])
    assert worked.count("parse") == 4
    for _ in range(2):
        await ask(schema, queries[0] + " " * 2048)
    assert worked.count("parse") == 6


async def test_two_schemas_do_not_share_what_is_valid(schema: CodedErrorSchema) -> None:
    @strawberry.type(name="Query")
    class Other:
        once: int = 1

    other = build_schema([GraphQLPart(query=Other)], visible_errors=())
    assert (await ask(schema, "{ twice(number: 1) }"))["errors"] == []
    assert (await ask(other, "{ twice(number: 1) }"))["errors"] != []
