"""Clients that leave before their answer, over real sockets: what was safe to stop has stopped."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
import strawberry
from api_server.application import Application
from api_server.graphql.part import GraphQLPart
from api_server.leaving import UnlessClientLeaves
from fastapi import APIRouter, Request
from live_app import Served, served
from starlette.types import Message

# What the loop needs to notice and to clean up; the promise is 200 ms.
FREED_WITHIN_S = 0.2


@dataclass
class Works:
    """How much work goes on, and how it ended."""

    going_on: int = 0
    finished: int = 0
    cancelled: int = 0


works = Works()
router = APIRouter()


async def work(seconds: float) -> float:
    works.going_on += 1
    try:
        await asyncio.sleep(seconds)
        works.finished += 1
    except asyncio.CancelledError:
        works.cancelled += 1
        raise
    finally:
        works.going_on -= 1
    return seconds


@router.post("/computed")
async def computed(request: Request, seconds: float) -> float:
    async with UnlessClientLeaves(request):
        return await work(seconds)


@router.post("/written")
async def written(seconds: float) -> float:
    return await work(seconds)


@strawberry.type
class Query:
    @strawberry.field
    async def worked(self, seconds: float) -> float:
        return await work(seconds)


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def wrote(self, seconds: float) -> float:
        return await work(seconds)


WORKING = Application(
    name="working",
    version="1",
    routers=lambda: (router,),
    graphql=lambda: GraphQLPart(query=Query, mutation=Mutation),
)


@pytest.fixture
async def service() -> AsyncIterator[Served]:
    works.going_on = works.finished = works.cancelled = 0
    async with served(WORKING) as running:
        yield running


def asking(path: str, body: object = None) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def rest(path: str, seconds: float) -> bytes:
    return asking(f"{path}?seconds={seconds}")


def graphql(query: str) -> bytes:
    return asking("/graphql", {"query": query})


COMPUTING = {
    "rest": (rest("/computed", 30), 1),
    "graphql": (graphql("{ worked(seconds: 30) }"), 1),
    "graphql by GET": (b"GET /graphql?query={worked(seconds:30)} HTTP/1.1\r\nHost: x\r\n\r\n", 1),
    "two fields of one query": (graphql("{ a: worked(seconds: 30) b: worked(seconds: 30) }"), 2),
    "an event stream": (
        graphql("{ worked(seconds: 30) }").replace(b"Host: x", b"Host: x\r\nAccept: text/event-stream"),
        1,
    ),
}
WRITING = {"rest": rest("/written", 0.3), "graphql": graphql("mutation { wrote(seconds: 0.3) }")}


@dataclass
class Asker:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self) -> tuple[int, object]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        body = await self.reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
        return int(head.split()[1]), json.loads(body)


@asynccontextmanager
async def asked(service: Served, *requests: bytes) -> AsyncIterator[Asker]:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    try:
        writer.write(b"".join(requests))
        async with asyncio.timeout(10):
            yield Asker(reader, writer)
    finally:
        writer.close()


async def until_going_on(number: int) -> None:
    async with asyncio.timeout(5):
        while works.going_on != number:
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("face", COMPUTING)
async def test_a_computation_ends_with_its_client(
    capsys: pytest.CaptureFixture[str], service: Served, face: str, caplog: pytest.LogCaptureFixture
) -> None:
    request, number = COMPUTING[face]
    before = service.footprint
    async with asked(service, request) as client:
        await until_going_on(number)
        client.writer.transport.abort()
        await asyncio.wait_for(until_going_on(0), FREED_WITHIN_S)
    assert (works.cancelled, works.finished) == (number, 0)
    await service.is_left(before, 2)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    log = capsys.readouterr().err
    assert "Traceback" not in log
    (line,) = [line for line in map(json.loads, log.splitlines()) if line["event"] == "request answered"]
    # The status of a stream has been sent before there is anything to wait for.
    assert (line["status"], line["level"]) == (200 if face == "an event stream" else 499, "info")


@pytest.mark.parametrize("face", WRITING)
async def test_what_changes_something_is_finished_all_the_same(service: Served, face: str) -> None:
    async with asked(service, WRITING[face]) as client:
        await until_going_on(1)
        client.writer.transport.abort()
        await until_going_on(0)
    assert (works.cancelled, works.finished) == (0, 1)


@pytest.mark.parametrize("request_", [rest("/computed", 0.05), graphql("{ worked(seconds: 0.05) }")])
async def test_a_client_that_stays_is_answered_again_and_again(service: Served, request_: bytes) -> None:
    async with asked(service) as client:
        for _ in range(3):
            client.writer.write(request_)
            status, _ = await client.answer()
            assert status == 200
    assert (works.cancelled, works.finished) == (0, 3)


async def test_a_request_that_waits_behind_another_is_not_lost(service: Served) -> None:
    pipelined = rest("/computed", 0.1), graphql("{ worked(seconds: 0.02) }"), rest("/computed", 0.01)
    async with asked(service, *pipelined) as client:
        answers = [await client.answer() for _ in pipelined]
    assert answers == [(200, 0.1), (200, {"data": {"worked": 0.02}}), (200, 0.01)]


@pytest.mark.parametrize("has_left", [False, True])
async def test_who_else_cancels_the_work_is_heard(has_left: bool) -> None:
    """As a server does that stops: the task ends as cancelled, whether or not its client has left meanwhile."""
    disconnect = asyncio.get_running_loop().create_future()

    async def receive() -> Message:
        message: Message = await disconnect
        return message

    async def computing() -> None:
        async with UnlessClientLeaves(Request({"type": "http"}, receive)):
            await asyncio.sleep(30)

    before = len(asyncio.all_tasks())
    task = asyncio.create_task(computing())
    await asyncio.sleep(0.01)
    if has_left:
        disconnect.set_result({"type": "http.disconnect"})
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert len(asyncio.all_tasks()) == before


async def test_work_that_is_done_is_answered_though_its_client_leaves_just_then() -> None:
    """It may have finished in spite of being cancelled, and nothing is left of that."""
    disconnect = asyncio.get_running_loop().create_future()

    async def receive() -> Message:
        message: Message = await disconnect
        return message

    async with UnlessClientLeaves(Request({"type": "http"}, receive)):
        disconnect.set_result({"type": "http.disconnect"})
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(30)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
