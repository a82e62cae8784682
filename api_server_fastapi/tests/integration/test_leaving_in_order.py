"""What a service has is closed in the order in which nobody misses anything."""

import asyncio
from collections.abc import AsyncGenerator

import httpx2
from api_server.app import create_app
from api_server.application import Application
from api_server.draining import Draining
from api_server.event_bus import BaseEvent
from api_server.services.di import get_draining, get_event_bus
from api_server.services.registry import ServiceRegistry
from api_server.testing import Serve
from fastapi import APIRouter, FastAPI


class Departed(BaseEvent):
    """Somebody asked for the last time."""


happened: list[str] = []


async def handle(event: Departed) -> None:
    happened.append("handler began")
    # Until the bus is closed.
    async for _ in get_event_bus().stream(Departed):
        pass
    await asyncio.sleep(0.01)
    happened.append("handler ended")


async def lifespan(app: FastAPI, registry: ServiceRegistry) -> AsyncGenerator[None, None]:
    yield
    happened.append("pool closed")


def routers() -> list[APIRouter]:
    router = APIRouter()
    tasks: set[asyncio.Task[None]] = set()

    @router.post("/depart")
    async def depart() -> None:
        tasks.add(asyncio.create_task(get_event_bus().emit(Departed())))

    return [router]


APPLICATION = Application(
    name="leaving in order",
    version="1",
    routers=routers,
    lifespan=lifespan,
    event_handlers={Departed: [handle]},
)


async def test_handlers_end_before_what_they_use(serve: Serve) -> None:
    happened.clear()
    async with serve(create_app(APPLICATION)) as client:
        assert (await client.post("/depart")).status_code == 200
    assert happened == ["handler began", "handler ended", "pool closed"]


async def test_while_it_drains_it_answers_by_a_last_answer_and_is_not_ready(serve: Serve) -> None:
    async with serve(create_app(APPLICATION)) as client:
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.headers.get("Connection")) == (200, None)
        assert get_draining().left == Draining().left
        get_draining().begin()
        leaving: list[httpx2.Response] = [await client.get(path) for path in ("/readyz", "/livez", "/nowhere")]
    assert [answer.status_code for answer in leaving] == [503, 200, 404]
    assert {answer.headers["Connection"] for answer in leaving} == {"close"}
    assert leaving[0].json()["is_draining"] is True
