"""One container per operation, even where operations share a context, as those of a socket do; and nothing stays."""

import asyncio
import gc
from collections.abc import AsyncGenerator

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


@strawberry.type
class Point:
    x: int


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def points(self) -> AsyncGenerator[Point, None]:
        for number in range(2000):
            await asyncio.sleep(0)
            yield Point(x=number)


async def test_a_subscription_holds_no_more_however_long_it_lasts() -> None:
    schema = build_schema([GraphQLPart(query=Query, subscription=Subscription)], visible_errors=())
    context = GraphQLContext(ServiceRegistry(), principal=None)
    held: list[int] = []
    async for _ in await schema.subscribe("subscription { points { x } }", context_value=context):
        held.append(0)
        if len(held) in (100, 2000):
            gc.collect()
            held[-1] = len(gc.get_objects())
    assert held[1999] - held[99] < 100
