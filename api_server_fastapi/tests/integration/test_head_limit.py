"""URL, headers and requests that wait: as many bytes as anybody needs, and no more than that are ever held."""

import asyncio
from contextlib import suppress

import httpx2
import pytest
from api_server.head_limit import HEAD_LIMIT, ShortHeadProtocol
from api_server.testing import Serve
from raw_requests import connected, spoken
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import Receive, Scope, Send

LINE = b"GET /%b HTTP/1.1\r\nHost: a\r\n%b\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
# What a transport reads at once, at most.
READ = 256 * 1024


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        with suppress(ClientDisconnect):
            size = len(await Request(scope, receive).body())
            await PlainTextResponse(str(size))(scope, receive, send)


async def telling_headers(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        request = Request(scope, receive)
        body = (await request.body()).decode()
        await JSONResponse([body, sorted(request.headers.keys())])(scope, receive, send)


@pytest.mark.parametrize("where", ["the URL", "one header", "many headers"])
async def test_a_head_that_is_too_long_is_refused(serve: Serve, where: str) -> None:
    def request(size: int) -> bytes:
        match where:
            case "the URL":
                return LINE % (b"x" * size, b"Connection: close\r\n")
            case "one header":
                return LINE % (b"", b"Connection: close\r\nA: " + b"x" * size + b"\r\n")
            case _:
                return LINE % (b"", b"Connection: close\r\n" + b"A: b\r\n" * (size // 6))

    async with serve(app, http=ShortHeadProtocol) as client:
        assert (await spoken(client, request(HEAD_LIMIT - 100))).startswith(b"HTTP/1.1 200")
        refused = await spoken(client, request(HEAD_LIMIT + 1))
        assert refused.startswith(b"HTTP/1.1 431")
        assert b"connection: close" in refused


async def test_a_header_without_end_is_refused_before_it_ends(serve: Serve) -> None:
    async with serve(app, http=ShortHeadProtocol) as client:
        endless = [b"GET / HTTP/1.1\r\nHost: a\r\nA: ", *[b"x" * 10_000] * 7]
        assert (await spoken(client, *endless)).startswith(b"HTTP/1.1 431")


async def test_a_head_that_comes_letter_by_letter_is_one(serve: Serve) -> None:
    async with serve(app, http=ShortHeadProtocol) as client:
        request = LINE % (b"", b"Connection: close\r\n")
        assert (await spoken(client, *[bytes([letter]) for letter in request])).startswith(b"HTTP/1.1 200")


async def test_a_body_may_be_longer_than_any_head(serve: Serve) -> None:
    async with serve(app, http=ShortHeadProtocol) as client:
        for body in (b"x" * 10 * HEAD_LIMIT, b"x"):
            assert (await client.post("/", content=body)).text == str(len(body))


async def test_heads_on_one_connection_do_not_add_up(serve: Serve) -> None:
    async with serve(app, http=ShortHeadProtocol) as client:
        for _ in range(3):
            assert (await client.get("/", headers={"A": "x" * (HEAD_LIMIT // 2)})).status_code == 200


async def test_a_head_that_follows_a_body_is_as_long_as_it_is(serve: Serve) -> None:
    body = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000
    async with serve(app, http=ShortHeadProtocol) as client:
        answers = await spoken(client, body + LINE % (b"", b"Connection: close\r\nA: " + b"x" * 6000 + b"\r\n"))
        assert (answers.count(b"HTTP/1.1 200"), answers.count(b"HTTP/1.1 ")) == (2, 2)


@pytest.mark.parametrize(
    ("begun", "going_on"),
    [(b"0\r\n", b"A: b\r\n" * 1000), (b"0\r\nA: ", b"x" * 6000), (b"1;", b"x" * 6000), (b"1\r\nx\r\n", b"0" * 6000)],
    ids=["trailers", "one trailer", "chunk extension", "chunk size"],
)
async def test_what_goes_on_without_end_beside_a_body_closes_the_connection(
    serve: Serve, begun: bytes, going_on: bytes
) -> None:
    async with serve(app, http=ShortHeadProtocol) as client:
        assert await left_of(client, CHUNKED + b"1\r\nx\r\n" + begun, *[going_on] * 20)


async def left_of(client: httpx2.AsyncClient, *parts: bytes) -> bool:
    """Send parts one by one, and return whether the server closes the connection in time."""
    with suppress(ConnectionError):
        answer = await spoken(client, *parts)
        assert b" 200 " not in answer
    return True


async def test_a_body_of_small_chunks_may_be_long(serve: Serve) -> None:
    async with serve(app, http=ShortHeadProtocol) as client:
        answer = await spoken(client, CHUNKED + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n")
        assert answer.endswith(b"\r\n\r\n20000")


async def test_what_follows_a_body_is_no_header_of_the_request(serve: Serve) -> None:
    trailers = b"X-Forwarded-For: 1.2.3.4\r\nAuthorization: Bearer a\r\nX-Request-ID: b\r\n\r\n"
    async with serve(telling_headers, http=ShortHeadProtocol) as client:
        answer = await spoken(client, CHUNKED + b"1\r\nx\r\n0\r\n" + trailers)
        assert answer.endswith(b'["x",["connection","host","transfer-encoding"]]')


class Watched(ShortHeadProtocol):
    """Knows how many requests were begun at once, and how many bytes waited, at most."""

    most_begun = 0
    most_unread = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.watch()

    def watch(self) -> None:
        Watched.most_begun = max(Watched.most_begun, len(self.pipeline))
        Watched.most_unread = max(Watched.most_unread, len(self._unread))


@pytest.fixture(autouse=True)
def nothing_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watched, "most_begun", 0)
    monkeypatch.setattr(Watched, "most_unread", 0)


async def test_of_many_requests_at_once_few_are_begun_and_all_are_answered(serve: Serve) -> None:
    async with serve(app, http=Watched) as client:
        answers = await spoken(client, b"GET / HTTP/1.1\r\nA:\r\n\r\n" * 1500 + LINE % (b"", b"Connection: close\r\n"))
    assert answers.count(b"HTTP/1.1 200") == 1501
    assert 1 < Watched.most_begun < 300


async def test_of_requests_without_end_few_bytes_wait_and_all_are_answered(serve: Serve) -> None:
    may_go_on = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            size = len(await Request(scope, receive).body())
            await may_go_on.wait()
            await asyncio.sleep(0.001)
            await PlainTextResponse(str(size))(scope, receive, send)

    request = LINE % (b"", b"A: %b\r\n" % (b"x" * 5000))
    body = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000
    async with serve(slow, http=Watched) as client, connected(client) as (reader, writer):
        answers = asyncio.create_task(reader.read())
        writer.write((request * 200 + body) * 2 + LINE % (b"", b"Connection: close\r\n"))
        async with asyncio.timeout(5):
            while Watched.most_unread <= HEAD_LIMIT:
                await asyncio.sleep(0.002)
            may_go_on.set()
            assert (await answers).count(b"HTTP/1.1 200") == 403
    assert Watched.most_unread <= HEAD_LIMIT + READ
