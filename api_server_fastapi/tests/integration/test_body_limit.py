"""Bodies that are too long are refused, in the one shape of errors, before they are held."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator

import pytest
from api_server.exception_handlers import register_exception_handlers
from api_server.leaving import UnlessClientLeaves
from api_server.middlewares import BodyLimitMiddleware, LogContextMiddleware
from api_server.testing import Serve
from fastapi import FastAPI, HTTPException, Request
from raw_requests import connected, spoken
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

LIMIT, GRAPHQL_LIMIT = 2000, 1000
CHUNKED = b"Transfer-Encoding: chunked\r\n"


class _Echo(Response):
    """Begins to answer before it knows all that is asked."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async for chunk in Request(scope, receive).stream():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})


def the_app() -> FastAPI:
    app = FastAPI(
        middleware=[
            Middleware(LogContextMiddleware),
            Middleware(BodyLimitMiddleware, limit=LIMIT, limits={"/graphql": GRAPHQL_LIMIT}),
        ]
    )
    register_exception_handlers(app)

    @app.post("/graphql")
    @app.post("/count")
    async def count(request: Request) -> int:
        return len(await request.body())

    @app.post("/json")
    async def keys(given: dict[str, str]) -> int:
        return len(given)

    @app.post("/nobody")
    async def nobody(request: Request) -> None:
        raise HTTPException(401, "nobody knows you")

    @app.post("/works")
    async def works(request: Request) -> str:
        async with UnlessClientLeaves(request):
            await asyncio.sleep(60)
        return "done"

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return _Echo()

    return app


def head(path: str, *lines: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (path.encode(), b"".join(lines))


def problem(answer: bytes) -> dict[str, object]:
    start, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in start.lower()
    assert b"connection: close" in start.lower()
    document: dict[str, object] = json.loads(body)
    return document


async def pieces(size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, 300):
        yield b"x" * min(300, size - start)


@pytest.mark.parametrize(("path", "limit"), [("/count", LIMIT), ("/graphql", GRAPHQL_LIMIT)])
@pytest.mark.parametrize("root_path", ["", "/behind/a/proxy"])
async def test_the_limit_is_taken_and_a_byte_more_is_not(serve: Serve, path: str, limit: int, root_path: str) -> None:
    async with serve(the_app(), root_path=root_path) as client:
        for body in (lambda size: b"x" * size, pieces):
            taken = await client.post(path, content=body(limit))
            assert (taken.status_code, taken.text) == (200, str(limit))
            refused = await client.post(path, content=body(limit + 1))
            assert refused.status_code == 413
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.headers["connection"] == "close"
            assert refused.json()["code"] == "CONTENT_TOO_LARGE"
            assert refused.json()["detail"] == f"The body should have at most {limit} bytes."
            assert refused.headers["x-request-id"]


async def test_what_is_announced_is_refused_before_anything_is_sent(serve: Serve) -> None:
    async with serve(the_app()) as client:
        length = b"Content-Length: %d\r\n" % (LIMIT + 1)
        assert problem(await spoken(client, head("/count", length)))["status"] == 413
        # Nor is it asked for.
        answer = await spoken(client, head("/count", length, b"Expect: 100-continue\r\n"))
        assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("path", ["/count", "/json", "/works"])
async def test_a_body_without_end_is_refused_as_soon_as_it_is_too_long(
    serve: Serve, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether the endpoint reads it whole, as JSON, or only looks whether the client is still there."""
    async with serve(the_app()) as client:
        chunks = [b"3e8\r\n" + b"x" * 1000 + b"\r\n"] * 3
        headers = head(path, CHUNKED, b"Content-Type: application/json\r\n")
        assert problem(await spoken(client, headers, *chunks))["status"] == 413
        assert (await client.post("/count", content=b"x")).status_code == 200
    assert [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_an_answer_that_has_begun_ends_there(serve: Serve) -> None:
    chunk = b"3e8\r\n" + b"x" * 1000 + b"\r\n"
    async with serve(the_app()) as client, connected(client) as (reader, writer):
        writer.write(head("/echo", CHUNKED) + chunk)
        begun = await asyncio.wait_for(reader.readuntil(b"x\r\n"), 5)
        writer.write(2 * chunk)
        rest = await asyncio.wait_for(reader.read(), 5)
    assert begun.startswith(b"HTTP/1.1 200")
    assert b"413" not in rest
    assert len(rest) <= LIMIT
    assert not rest.endswith(b"0\r\n\r\n"), "nobody takes it for whole"


async def test_another_refusal_stays_what_it_is(serve: Serve) -> None:
    async with serve(the_app()) as client:
        answer = await client.post("/nobody", content=pieces(10 * LIMIT))
        assert (answer.status_code, answer.json()["detail"]) == (401, "nobody knows you")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "GZIP", "identity, gzip"])
async def test_nothing_is_unpacked(serve: Serve, encoding: str) -> None:
    """A bomb stays what it is: a few bytes."""
    async with serve(the_app()) as client:
        headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
        answer = await client.post("/json", content=gzip.compress(b"{}" + b" " * 10**6), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
        assert answer.headers["accept-encoding"] == "identity"
        plain = await client.post("/json", content=b"{}", headers={**headers, "Content-Encoding": "identity"})
        assert plain.status_code == 200


async def test_a_client_that_leaves_is_still_known_to_have_left() -> None:
    """By the endpoint, and by who writes the line about the request."""

    async def app(scope: object, receive: object, send: object) -> None:
        raise ClientDisconnect

    scope = {"type": "http", "path": "/", "headers": []}
    with pytest.raises(ClientDisconnect):
        await BodyLimitMiddleware(app, LIMIT)(scope, None, None)  # type: ignore[arg-type]  # neither is asked
