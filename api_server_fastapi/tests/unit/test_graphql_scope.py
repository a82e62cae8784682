"""One container per operation, even where operations share a context, as those of a socket do."""

import asyncio

import strawberry
import svcs
from api_server.graphql.context import GraphQLContext
from api_server.graphql.part import GraphQLPart
from api_server.graphql.schema import build_schema
from api_server.services.registry import ServiceRegistry


class Counter:
    pass


seen: list[svcs.Container] = []


@strawberry.type
class Query:
    @strawberry.field
    async def container(self, info: strawberry.Info[GraphQLContext]) -> str:
        seen.append(info.context.services)
        await asyncio.sleep(0)
        assert info.context.services is not None
        return str(id(info.context.services.get(Counter)))


async def test_operations_that_share_a_context_share_no_container() -> None:
    registry = ServiceRegistry()
    registry.register_factory(Counter, Counter)
    schema = build_schema([GraphQLPart(query=Query)], visible_errors=())
    context = GraphQLContext(registry, principal=None)
    results = await asyncio.gather(
        *(schema.execute("{a: container b: container}", context_value=context) for _ in range(2))
    )
    services = [set((result.data or {}).values()) for result in results]
    assert [len(ids) for ids in services] == [1, 1]
    assert services[0] != services[1]
    assert len({id(container) for container in seen}) == 2
    assert not hasattr(context, "services")
