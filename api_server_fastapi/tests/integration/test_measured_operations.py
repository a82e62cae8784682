"""GraphQL operations as numbers, by what came of them and never by what a client calls them."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import ClassVar

import httpx2
import pytest
import strawberry
from api_server.application import Application
from api_server.graphql.part import GraphQLPart
from api_server.metrics import Metrics
from api_server.services.measured import OperationNumbers
from live_app import served
from numbers_told import numbers
from watchers import LEGACY, TRANSPORT, watching


class SoldOutError(Exception):
    code: ClassVar[str] = "SOLD_OUT"

    def __init__(self) -> None:
        super().__init__("there is no more of it")


@strawberry.type
class Query:
    @strawberry.field
    def tea(self) -> str:
        return "green"

    @strawberry.field
    def milk(self) -> str:
        raise SoldOutError

    @strawberry.field
    async def coffee(self) -> str:
        await asyncio.sleep(60)
        return "black"


@strawberry.type
class Mutation:
    @strawberry.mutation
    def boil(self) -> bool:
        raise RuntimeError("no water today")


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def ticks(self, interval_ms: int = 10, number: int = 1_000_000) -> AsyncGenerator[str, None]:
        for tick in range(number):
            await asyncio.sleep(interval_ms / 1000)
            yield str(tick)


SHOP = Application(
    name="shop",
    version="1",
    uses_database=lambda: False,
    graphql=lambda: GraphQLPart(query=Query, mutation=Mutation, subscription=Subscription),
    errors={SoldOutError: 409},
)

Told = dict[str, float]


async def told_by(client: httpx2.AsyncClient, holds: Callable[[Told], bool] = lambda _: True) -> Told:
    async with asyncio.timeout(5):
        while not holds(told := numbers((await client.get("/metrics")).text)):
            await asyncio.sleep(0.01)
    return told


def client_of(port: int) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", verify=False, trust_env=False)


async def test_operations_are_counted_by_their_type_and_what_came_of_them() -> None:
    many = " ".join(f"a{number}: tea" for number in range(16))
    asked: list[tuple[str, str, str]] = [
        ("query Secret { tea }", "query", "success"),
        ("query Secret { tea }", "query", "success"),
        ("{ milk }", "query", "failed"),
        ("mutation { boil }", "mutation", "failed"),
        ("{ secret }", "query", "refused"),
        (f"{{ {many} }}", "query", "refused"),
        ("{ tea", "unknown", "refused"),
    ]
    async with served(SHOP) as running, client_of(running.port) as client:
        for query, _, _ in asked:
            await client.post("/graphql", json={"query": query})
        told = await told_by(client)
        text = (await client.get("/metrics")).text
    counted = {name: number for name, number in told.items() if name.startswith("graphql_operations_total")}
    assert counted == {
        f"graphql_operations_total{{outcome={outcome},type={kind}}}": asked_so
        for (kind, outcome), asked_so in {
            ("query", "success"): 2,
            ("query", "failed"): 1,
            ("mutation", "failed"): 1,
            ("query", "refused"): 2,
            ("unknown", "refused"): 1,
        }.items()
    }
    assert told["graphql_operation_duration_seconds_count{type=query}"] == 5
    assert told["graphql_errors_total{code=SOLD_OUT}"] == 1
    assert told["graphql_errors_total{code=INTERNAL_SERVER_ERROR}"] == 1
    assert told["graphql_errors_total{code=GRAPHQL_VALIDATION_FAILED}"] == 1
    assert told["graphql_documents_refused_total{limit=aliases}"] == 1
    assert told["graphql_documents_refused_total{limit=rootFields}"] == 1
    assert told["graphql_document_cache_total{result=hit}"] == 1
    assert told["graphql_document_cache_total{result=miss}"] == 6
    assert told["graphql_operations_in_progress"] == 0
    assert "secret" not in text.lower()


async def test_who_leaves_before_the_answer_cancels() -> None:
    async with served(SHOP) as running, client_of(running.port) as client:
        with pytest.raises(httpx2.ReadTimeout):
            await client.post("/graphql", json={"query": "{ coffee }"}, timeout=0.2)
        told = await told_by(client, lambda told: told["graphql_operations_in_progress"] == 0)
    assert told["graphql_operations_total{outcome=cancelled,type=query}"] == 1
    assert told["http_requests_total{method=POST,route=/graphql,status=499}"] == 1


@pytest.mark.parametrize("transport", [TRANSPORT, LEGACY, "sse"])
async def test_sockets_and_what_runs_on_them_are_counted_while_they_are_open(transport: str) -> None:
    async with served(SHOP) as running, client_of(running.port) as client:
        sockets = f"graphql_sockets{{protocol={transport}}}"
        async with watching(running.port, transport, "subscription { ticks }") as watcher:
            await watcher.receive()
            told = await told_by(client)
            assert (told[sockets], told["graphql_subscriptions"]) == (1, 1)
            assert told["http_event_streams"] == (transport == "sse")
            assert told["graphql_operations_in_progress"] == 1
        told = await told_by(client, lambda told: told["graphql_operations_in_progress"] == told[sockets] == 0)
    assert told["graphql_operations_total{outcome=cancelled,type=subscription}"] == 1
    assert not any("type=subscription" in name for name in told if "duration" in name)


def test_codes_that_are_made_of_what_clients_send_are_counted_as_one() -> None:
    operations = OperationNumbers(Metrics())
    for number in range(1000):
        operations.failed(f"CODE_{number}")
    assert len(operations._codes) == 65
