"""An application whose schema has one of each: what hostile documents try their luck with."""

from collections.abc import AsyncGenerator
from enum import Enum

import strawberry
from api_server.application import Application
from api_server.graphql.guard import GraphQLLimits
from api_server.graphql.live import live
from api_server.graphql.part import GraphQLPart
from api_server.graphql.schema import CodedErrorSchema, build_schema
from live_app import register, ticking
from strawberry.scalars import JSON

SECRET = "postgresql://somebody:hunter2@db"

resolved: list[str] = []
"""Which fields of the root were resolved."""


@strawberry.enum
class Colour(Enum):
    RED = 1
    GREEN = 2


@strawberry.input
class Shape:
    name: str = ""
    colour: Colour = Colour.RED
    inner: "Shape | None" = None
    inners: "list[Shape] | None" = None


@strawberry.type
class Thing:
    name: str = "thing"

    @strawberry.field
    def thing(self) -> "Thing":
        return Thing()


@strawberry.type
class Query:
    @strawberry.field
    def answer(self) -> int:
        resolved.append("answer")
        return 42

    @strawberry.field
    def thing(
        self,
        number: int | None = None,
        ratio: float | None = None,
        names: list[str] | None = None,
        shape: Shape | None = None,
        shapes: list[Shape] | None = None,
        document: JSON | None = None,
    ) -> Thing:
        resolved.append("thing")
        return Thing()

    @strawberry.field
    def failing(self) -> int:
        raise RuntimeError(f"cannot reach {SECRET}")


@strawberry.type
class Mutation:
    @strawberry.mutation
    def change(self) -> int:
        resolved.append("change")
        return 1


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def ticks(self, number: int = 3) -> AsyncGenerator[str, None]:
        return live(ticking(number, 0.001, 1))

    @strawberry.subscription
    async def failing(self) -> AsyncGenerator[int, None]:
        raise RuntimeError(f"cannot reach {SECRET}")
        yield 1


PART = GraphQLPart(query=Query, mutation=Mutation, subscription=Subscription)
GUARDED = Application(name="guarded", version="1", register=register, graphql=lambda: PART)


def guarded_schema(limits: GraphQLLimits | None = None) -> CodedErrorSchema:
    return build_schema([PART], visible_errors=(), limits=limits)
