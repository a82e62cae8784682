"""Columns: lists of numbers that are one value to GraphQL."""

import strawberry
from api_server.graphql.columns import FloatColumn, IntColumn
from api_server.graphql.context import GraphQLContext
from api_server.graphql.part import GraphQLPart
from api_server.graphql.schema import build_schema
from api_server.services.registry import ServiceRegistry


@strawberry.type
class Query:
    @strawberry.field
    def steps(self) -> IntColumn:
        return IntColumn((1, 2, 3))

    @strawberry.field
    def ways(self) -> FloatColumn | None:
        return FloatColumn([0.1, 1e300])

    @strawberry.field
    def nothing(self) -> FloatColumn | None:
        return None


SCHEMA = build_schema([GraphQLPart(query=Query)], visible_errors=())


async def test_a_column_is_answered_as_a_list() -> None:
    context = GraphQLContext(ServiceRegistry(), principal=None)
    result = await SCHEMA.execute("{ steps ways nothing }", context_value=context)
    assert result.data == {"steps": [1, 2, 3], "ways": [0.1, 1e300], "nothing": None}


def test_a_column_says_what_it_holds() -> None:
    sdl = SCHEMA.as_str()
    assert "steps: IntColumn!" in sdl
    assert "ways: FloatColumn" in sdl
    assert '"""Integers, in JSON a list of them. Only answered, never given."""\nscalar IntColumn' in sdl
    assert '"""Numbers, in JSON a list of them. Only answered, never given."""\nscalar FloatColumn' in sdl
