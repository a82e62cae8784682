"""What the live part is measured beside: a plain Strawberry subscription, and a bare broadcast of the same text.

`PLAIN_ITEMS` are the items of one subscription and `PLAIN_INTERVAL_MS` the milliseconds between two of them; 0 gives
the event loop one turn.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress

import strawberry
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from strawberry.fastapi import GraphQLRouter
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from throttling_sequencer.api.graphql.types import CoordinateType, UnitGoalType

BROADCAST = (
    '{"id":"1","type":"next","payload":{"data":{"generateSteps":'
    '{"coordinate":{"x":1000000.0,"y":0.0},"throttle":300}}}}'
)


async def _generate_steps() -> AsyncGenerator[UnitGoalType, None]:
    interval = float(os.environ["PLAIN_INTERVAL_MS"]) / 1000
    for _ in range(int(os.environ["PLAIN_ITEMS"])):
        yield UnitGoalType(coordinate=CoordinateType(x=1e6, y=0.0), throttle=300)
        await asyncio.sleep(interval)


def _nothing() -> str:
    return ""


@strawberry.type
class _Query:
    nothing: str = strawberry.field(resolver=_nothing)


@strawberry.type
class _Subscription:
    generate_steps: AsyncGenerator[UnitGoalType, None] = strawberry.subscription(resolver=_generate_steps)


def plain() -> FastAPI:
    """Serve the subscription as Strawberry's own documentation says."""
    app = FastAPI()
    schema = strawberry.Schema(_Query, subscription=_Subscription)
    app.include_router(GraphQLRouter(schema, path="/graphql", subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL]))
    return app


def broadcast() -> Starlette:
    """Send one text to every subscriber again and again: no GraphQL, no JSON, one task for all."""
    subscribers: set[WebSocket] = set()

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol=GRAPHQL_TRANSPORT_WS_PROTOCOL)
        await websocket.receive_text()
        await websocket.send_text('{"type":"connection_ack"}')
        await websocket.receive_text()
        subscribers.add(websocket)
        with suppress(WebSocketDisconnect):
            await websocket.receive_text()
        subscribers.discard(websocket)

    async def send_for_ever() -> None:
        interval = float(os.environ["PLAIN_INTERVAL_MS"]) / 1000
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            for subscriber in tuple(subscribers):
                with suppress(WebSocketDisconnect):
                    await subscriber.send_text(BROADCAST)
            # Nobody there is no reason to be busy.
            due = due + interval if subscribers else clock() + 0.01
            await asyncio.sleep(max(0.0, due - clock()))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        sending = asyncio.create_task(send_for_ever())
        yield
        sending.cancel()

    return Starlette(routes=[WebSocketRoute("/graphql", socket)], lifespan=lifespan)
