"""A document that was valid once is not worked on again; the schema answers as if it were."""

from types import ModuleType

import pytest
import strawberry
from api_server.graphql import documents, guard
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
    """What was parsed, measured and validated."""
    work: list[str] = []

    def counting(module: ModuleType, name: str) -> None:
        original = getattr(module, name)

        def counted(*args: object, **kwargs: object) -> object:
            work.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, counted)

    counting(strawberry_schema, "parse")
    counting(guard, "broken_limits")
    counting(guard, "validate")
    return work


async def ask(schema: CodedErrorSchema, query: str, **variables: object) -> dict[str, object]:
    context = GraphQLContext(ServiceRegistry(), principal=None)
    result = await schema.execute(query, variable_values=variables, context_value=context)
    return {"data": result.data, "errors": [error.formatted for error in result.errors or []]}


QUERY = "query($number: Int!) { twice(number: $number) }"


async def test_a_document_is_worked_on_once_whatever_its_variables(schema: CodedErrorSchema, worked: list[str]) -> None:
    answers = [await ask(schema, QUERY, number=number) for number in range(3)]
    assert [answer["data"] for answer in answers] == [{"twice": 0}, {"twice": 2}, {"twice": 4}]
    assert worked == ["parse", "broken_limits", "validate"]
    assert (schema.documents.hits, schema.documents.misses) == (2, 1)


async def test_what_is_not_valid_is_told_each_time(schema: CodedErrorSchema, worked: list[str]) -> None:
    for query, code in (("{ thrice }", "GRAPHQL_VALIDATION_FAILED"), ("{", "GRAPHQL_PARSE_FAILED")):
        first, second = [await ask(schema, query) for _ in range(2)]
        assert first == second
        assert first["errors"][0]["extensions"] == {"code": code}  # type: ignore[index]
    assert worked == ["parse", "broken_limits", "validate"] * 2 + ["parse"] * 2
    assert (schema.documents.hits, schema.documents.misses) == (0, 4)


async def test_what_asks_too_much_is_measured_each_time_and_never_validated(
    schema: CodedErrorSchema, worked: list[str]
) -> None:
    for _ in range(2):
        errors = (await ask(schema, "{" + "twice(number: 1) " * 11 + "}"))["errors"]
        assert errors[0]["extensions"]["limit"] == "rootFields"  # type: ignore[index]
    assert worked == ["parse", "broken_limits"] * 2


def query(number: int) -> str:
    return f"{{ twice(number: {number}) }}"


async def test_only_so_many_and_only_short_documents_are_held(
    schema: CodedErrorSchema, worked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_MOST_ASKED_ONCE", 2)
    for number in (0, 1, 2, 0):
        await ask(schema, query(number))
    assert worked.count("parse") == 4
    await ask(schema, query(2))
    assert worked.count("parse") == 4
    for _ in range(2):
        await ask(schema, query(0) + " " * 2048)
    assert worked.count("parse") == 6


async def test_documents_asked_once_do_not_drive_out_those_asked_again(
    schema: CodedErrorSchema, worked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_MOST_ASKED_ONCE", 2)
    monkeypatch.setattr(documents, "_MOST_ASKED_AGAIN", 2)
    for _ in range(2):
        await ask(schema, query(0))
    for number in range(1, 20):
        await ask(schema, query(number))
    assert worked.count("parse") == 20
    await ask(schema, query(0))
    assert worked.count("parse") == 20


async def test_of_those_asked_again_the_one_not_asked_for_longest_goes_first(
    schema: CodedErrorSchema, worked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_MOST_ASKED_ONCE", 1)
    monkeypatch.setattr(documents, "_MOST_ASKED_AGAIN", 2)
    for number in (0, 0, 1, 1, 2, 2, 3):
        await ask(schema, query(number))
    assert worked.count("parse") == 4
    for number in (1, 2):
        await ask(schema, query(number))
    assert worked.count("parse") == 4
    await ask(schema, query(0))
    assert worked.count("parse") == 5


async def test_two_schemas_do_not_share_what_is_valid(schema: CodedErrorSchema) -> None:
    @strawberry.type(name="Query")
    class Other:
        once: int = 1

    other = build_schema([GraphQLPart(query=Other)], visible_errors=())
    assert (await ask(schema, "{ twice(number: 1) }"))["errors"] == []
    assert (await ask(other, "{ twice(number: 1) }"))["errors"] != []
