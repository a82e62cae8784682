"""An application with a subscription that can be watched from inside, served on a real socket in the test's loop."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import strawberry
import uvicorn
from api_server.app import create_app
from api_server.application import Application
from api_server.graphql.context import GraphQLContext
from api_server.graphql.live import Overflow, live
from api_server.graphql.part import GraphQLPart
from api_server.services.registry import ServiceRegistry
from api_server.settings import get_settings
from api_server.socket_protocol import UNREAD_WITHIN_S, BoundedSocketProtocol, give_up_on_who_does_not_read

# How long a client is waited for that takes nothing.
PATIENCE_S = 0.3


@dataclass
class Alive:
    """How many of what belongs to operations exists now, and how many subscriptions there were."""

    services: int = 0
    sources: int = 0
    begun: int = 0
    changes_begun: int = 0
    changes_made: int = 0

    def add(self, kind: str, number: int) -> None:
        setattr(self, kind, getattr(self, kind) + number)


class PerOperation:
    """A service with a life of its own."""


alive = Alive()


@strawberry.type
class Query:
    @strawberry.field
    def hello(self) -> str:
        return "world"


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def ticks(
        self, info: strawberry.Info[GraphQLContext], number: int = 1_000_000, interval_ms: int = 10, size: int = 1
    ) -> AsyncGenerator[str, None]:
        info.context.services.get(PerOperation)
        return live(ticking(number, interval_ms / 1000, size), overflow=Overflow.CLOSE, patience=PATIENCE_S)


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def change(self, seconds: float = 0) -> str:
        alive.add("changes_begun", 1)
        await asyncio.sleep(seconds)
        alive.add("changes_made", 1)
        return "changed"


async def ticking(number: int, interval: float, size: int) -> AsyncGenerator[str, None]:
    alive.add("sources", 1)
    alive.add("begun", 1)
    try:
        for tick in range(number):
            await asyncio.sleep(interval)
            yield f"{tick}" * size
    finally:
        alive.add("sources", -1)


def register(registry: ServiceRegistry) -> None:
    def factory() -> Any:
        alive.add("services", 1)
        yield PerOperation()
        alive.add("services", -1)

    registry.register_factory(PerOperation, factory)


TICKING = Application(
    name="ticking",
    version="1",
    register=register,
    graphql=lambda: GraphQLPart(query=Query, mutation=Mutation, subscription=Subscription),
)


@dataclass
class Served:
    """A server in this process's own loop."""

    port: int

    @property
    def footprint(self) -> tuple[int, int, int, int]:
        """Tasks, open descriptors, services and sources."""
        return len(asyncio.all_tasks()), len(list(Path("/proc/self/fd").iterdir())), alive.services, alive.sources

    async def subscriptions_begun(self, number: int) -> None:
        async with asyncio.timeout(10):
            while alive.begun < number:
                await asyncio.sleep(0.002)

    async def is_left(self, footprint: tuple[int, int, int, int], seconds: float) -> None:
        """Wait until nothing is left of what came since `footprint` was taken."""
        try:
            async with asyncio.timeout(seconds):
                while any(now > before for now, before in zip(self.footprint, footprint, strict=True)):
                    await asyncio.sleep(0.005)
        except TimeoutError:
            tasks = "\n".join(map(repr, asyncio.all_tasks()))
            raise AssertionError(f"{self.footprint} is left, {footprint} was there before:\n{tasks}") from None


@asynccontextmanager
async def served(
    application: Application = TICKING, *, unread_within: float = UNREAD_WITHIN_S, **options: Any
) -> AsyncIterator[Served]:
    """Serve an application by uvicorn, configured as the product does but for `options`, until the context ends."""
    get_settings.cache_clear()
    alive.services = alive.sources = alive.begun = alive.changes_begun = alive.changes_made = 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        give_up_on_who_does_not_read(listener, unread_within)
        config = uvicorn.Config(
            create_app(application),
            lifespan="on",
            log_config=None,
            access_log=False,
            ws_per_message_deflate=False,
            ws_max_size=64 * 1024,
            timeout_graceful_shutdown=3,
            **{"ws": BoundedSocketProtocol, **options},
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.01)
        try:
            yield Served(listener.getsockname()[1])
        finally:
            server.should_exit = True
            await serving
