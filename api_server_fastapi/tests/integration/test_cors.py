"""Pages of other origins: closed by default, open to those that are named."""

from collections.abc import Iterator

import httpx2
import pytest
from api_server.app import create_app
from api_server.foundation import FOUNDATION
from api_server.settings import get_settings
from api_server.testing import Serve

PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "Content-Type"}


@pytest.fixture(autouse=True)
def _production(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A browser asks for permission without credentials."""
    monkeypatch.setenv("ENV_TYPE", "production")
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


async def preflight(client: httpx2.AsyncClient, origin: str) -> httpx2.Response:
    return await client.options("/graphql", headers={"Origin": origin, **PREFLIGHT})


async def test_by_default_no_page_may_ask(serve: Serve) -> None:
    async with serve(create_app(FOUNDATION)) as client:
        assert (await preflight(client, "https://a.example")).status_code == 401
        answer = await client.get("/livez", headers={"Origin": "https://a.example"})
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_named_origin_may_and_another_may_not(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_SERVER_CORS_ORIGINS", "https://a.example,https://b.example")
    monkeypatch.setenv("API_SERVER_CORS_CREDENTIALS", "true")
    async with serve(create_app(FOUNDATION)) as client:
        allowed = await preflight(client, "https://b.example")
        assert allowed.status_code == 200
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://b.example"
        assert allowed.headers["Access-Control-Allow-Credentials"] == "true"
        assert (await preflight(client, "https://b.example.evil")).status_code == 400
        # A refusal can be read by the page that may ask, and has its id.
        refused = await client.post("/graphql", json={}, headers={"Origin": "https://a.example"})
        assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, "https://a.example")
        assert "X-Request-ID" in refused.headers["Access-Control-Expose-Headers"]
        assert refused.headers["X-Request-ID"]


async def test_every_origin_may_without_credentials(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_SERVER_CORS_ORIGINS", "*")
    async with serve(create_app(FOUNDATION)) as client:
        answer = await client.get("/livez", headers={"Origin": "https://a.example"})
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers
