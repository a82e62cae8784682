"""URL and headers: as many bytes as anybody needs, and no more than that are ever held."""

import pytest
from api_server.head_limit import HEAD_LIMIT, ShortHeadProtocol
from api_server.testing import Serve
from raw_requests import spoken
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

LINE = b"GET /%b HTTP/1.1\r\nHost: a\r\n%b\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        size = len(await Request(scope, receive).body())
        await PlainTextResponse(str(size))(scope, receive, send)


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
