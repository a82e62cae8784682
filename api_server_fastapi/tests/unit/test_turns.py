"""Operations that take long begin one after the other, and what else is asked comes between them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import strawberry
from api_server.graphql import turns
from api_server.graphql.context import GraphQLContext
from api_server.graphql.part import GraphQLPart
from api_server.graphql.schema import build_schema
from api_server.graphql.turns import Turns
from api_server.services.registry import ServiceRegistry
from strawberry.extensions import SchemaExtension


class Clock:
    """Goes on only when it is told to, and knows how often the event loop has turned."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turn = 0
        self._tick: asyncio.Handle | None = None

    def tick(self) -> None:
        self.turn += 1
        self._tick = asyncio.get_running_loop().call_soon(self.tick)

    def stop(self) -> None:
        if self._tick is not None:
            self._tick.cancel()


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(turns, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    clock.tick()
    yield clock
    clock.stop()


async def begin(taken: Turns, principal: str, clock: Clock, lasts: float, begun: list[tuple[str, int]]) -> None:
    await taken.take(principal)
    begun.append((principal, clock.turn))
    clock.now += lasts


async def test_short_ones_begin_at_once(clock: Clock) -> None:
    taken, begun = Turns(), list[tuple[str, int]]()
    await asyncio.gather(*(begin(taken, "ada", clock, 0.0001, begun) for _ in range(40)))
    assert len({turn for _, turn in begun}) == 1


async def test_of_long_ones_one_begins_in_each_turn(clock: Clock) -> None:
    taken, begun = Turns(), list[tuple[str, int]]()
    await asyncio.gather(*(begin(taken, "ada", clock, 0.02, begun) for _ in range(10)))
    assert len({turn for _, turn in begun}) == 10


async def test_principals_take_turns(clock: Clock) -> None:
    taken, begun = Turns(), list[tuple[str, int]]()
    await asyncio.gather(
        *(begin(taken, "ada", clock, 0.02, begun) for _ in range(5)), begin(taken, "bob", clock, 0.02, begun)
    )
    assert [principal for principal, _ in begun] == ["ada", "ada", "bob", "ada", "ada", "ada"]


async def test_who_does_not_wait_any_more_takes_no_turn(clock: Clock) -> None:
    taken, begun = Turns(), list[tuple[str, int]]()
    tasks = [asyncio.create_task(begin(taken, "ada", clock, 0.02, begun)) for _ in range(4)]
    await asyncio.sleep(0)
    for task in tasks[1:3]:
        task.cancel()
    await tasks[3]
    assert len(begun) == 2
    await asyncio.wait(tasks)
    await begin(taken, "bob", clock, 0, begun)
    assert len(begun) == 3


@strawberry.type
class Query:
    @strawberry.field
    def long(self, info: strawberry.Info[Any]) -> int:
        info.context.begin()
        return 1


class Noted(SchemaExtension):
    """Knows how many operations have begun, and how many are over whose document is known."""

    def on_operation(self) -> Iterator[None]:
        context: Noting = self.execution_context.context
        context.entered += 1
        try:
            yield
        finally:
            context.left += self.execution_context.graphql_document is not None


class Noting(GraphQLContext):
    """One context for all operations of a test, which are told apart by the turn in which they begin."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(ServiceRegistry(), principal=None)
        self.clock = clock
        self.begun: list[int] = []
        self.entered = self.left = 0

    def __copy__(self) -> "Noting":
        return self

    def begin(self) -> None:
        self.begun.append(self.clock.turn)
        self.clock.now += 0.02


async def test_each_operation_of_a_schema_takes_its_turn(clock: Clock) -> None:
    schema, context = build_schema([GraphQLPart(query=Query)], []), Noting(clock)
    results = await asyncio.gather(*(schema.execute("{long}", context_value=context) for _ in range(5)))
    assert [result.data for result in results] == [{"long": 1}] * 5
    assert len(set(context.begun)) == 5


async def test_an_operation_that_is_stopped_while_it_waits_is_heard_of_by_all_who_heard_of_it(clock: Clock) -> None:
    schema, context = build_schema([GraphQLPart(query=Query, extensions=(Noted,))], []), Noting(clock)
    tasks = [asyncio.create_task(schema.execute("{long}", context_value=context)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert tasks[1].cancelled()
    assert (len(context.begun), context.entered, context.left) == (2, 3, 3)
