"""What browsers may do with an answer: nothing, but for the pages that are meant for them."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2
import pytest
from api_server.app import DOCUMENTATION_PATHS, create_app
from api_server.application import Application
from api_server.settings import get_settings
from api_server.testing import Serve
from fastapi import APIRouter, FastAPI
from starlette.responses import PlainTextResponse
from websockets.asyncio.client import connect

ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
STRICT = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
PROXIED = {"proxy_headers": True, "forwarded_allow_ips": "127.0.0.1"}


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def the_app() -> FastAPI:
    router = APIRouter()

    @router.get("/fails")
    async def fails() -> None:
        raise RuntimeError("nobody expects it")

    @router.get("/own")
    async def own() -> PlainTextResponse:
        return PlainTextResponse("", headers={"Cache-Control": "max-age=60", "X-Frame-Options": "SAMEORIGIN"})

    return create_app(Application(name="pages", version="1", routers=lambda: (router,), uses_database=lambda: False))


def assert_closed(answer: httpx2.Response, status: int) -> None:
    assert answer.status_code == status
    headers = dict(answer.headers)
    assert headers.items() >= ALWAYS.items()
    assert headers["content-security-policy"] == STRICT


async def test_every_answer_is_closed_whatever_it_says(serve: Serve) -> None:
    async with serve(the_app()) as client:
        assert_closed(await client.get("/version"), 200)
        assert_closed(await client.get("/nowhere"), 404)
        assert_closed(await client.put("/version"), 405)
        assert_closed(await client.post("/graphql", json={}), 400)
        assert_closed(await client.post("/graphql", content=b"x" * 70_000), 413)
        assert_closed(await client.get("/fails"), 500)


async def test_so_is_a_refusal_of_who_is_not_known(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV_TYPE", "production")
    async with serve(the_app()) as client:
        assert_closed(await client.get("/version"), 401)


async def test_what_an_answer_says_itself_stays(serve: Serve) -> None:
    async with serve(the_app()) as client:
        answer = await client.get("/own")
        assert answer.headers.get_list("cache-control") == ["max-age=60"]
        assert answer.headers.get_list("x-frame-options") == ["SAMEORIGIN"]
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_nobody_keeps_what_somebody_known_was_answered(serve: Serve) -> None:
    async with serve(the_app()) as client:
        assert (await client.get("/version")).headers["cache-control"] == "no-store"


async def test_who_comes_by_https_is_told_to_stay_there(serve: Serve) -> None:
    async with serve(the_app(), **PROXIED) as client:
        assert "strict-transport-security" not in (await client.get("/version")).headers
        secure = await client.get("/version", headers={"X-Forwarded-Proto": "https"})
        assert secure.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize("path", [*DOCUMENTATION_PATHS, "/graphql"])
async def test_a_page_may_load_what_it_names_and_no_more(serve: Serve, path: str) -> None:
    async with serve(the_app()) as client:
        page = await client.get(path, headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert dict(page.headers).items() >= ALWAYS.items()
    policy = {
        name: sources
        for name, *sources in (part.split() for part in page.headers["content-security-policy"].split(";"))
    }
    kinds = {"script": "script-src", "link": "style-src", "img": "img-src"}
    for tag, attributes in re.findall(r"<(script|link|img)\b([^>]*)>", page.text):
        if named := re.search(r'(?:src|href)="(https:[^"]+)"', attributes):
            kind = "img-src" if "icon" in attributes else kinds[tag]
            origin = "https://" + urlsplit(named[1]).netloc
            assert origin in policy[kind], (kind, named[1])
    assert "'unsafe-eval'" not in page.headers["content-security-policy"]
    assert policy["default-src"] == policy["frame-ancestors"] == ["'none'"]


async def test_an_answer_at_the_address_of_a_page_is_an_answer(serve: Serve) -> None:
    async with serve(the_app()) as client:
        assert_closed(await client.post("/graphql", json={"query": "{ version { name } }"}), 200)


async def test_a_socket_that_is_accepted_has_none_of_it(serve: Serve) -> None:
    async with serve(the_app()) as client:
        url = f"ws://{client.base_url.host}:{client.base_url.port}/graphql"
        async with connect(url, subprotocols=["graphql-transport-ws"]) as socket:  # type: ignore[list-item]  # a NewType
            assert socket.response is not None
            assert ALWAYS.keys().isdisjoint(name.lower() for name in socket.response.headers)
