"""An application that keeps presets, and one way to ask it over REST and over GraphQL."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx2
import psycopg
from api_server.app import create_app
from api_server.application import Application
from api_server.database.alembic_manager import AlembicManager
from api_server.database.migration_backend import upgrade_all
from api_server.identity import Principal
from api_server.local.postgres import PostgresAddress
from api_server.models.db_model import SCHEMA
from api_server.testing import fresh_database
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

PATH = "/api/v1/presets"


class UnreadableError(ValueError):
    """A rule of a domain, which names its field itself."""

    field = "background"
    rule = "should differ from the text"


class Theme(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    background: str = "#ffffff"
    text_color: str = "#000000"
    sizes: tuple[int, int] = (12, 16)
    contrast: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _can_be_read(self) -> "Theme":
        if self.background == self.text_color:
            raise UnreadableError
        return self


class Note(BaseModel):
    """Anything, under a name that differs from the attribute's."""

    content: Any = Field(default=None, alias="is")
    weight: float = 0.0


KINDS: Mapping[str, type[BaseModel]] = {"theme": Theme, "note": Note}


class Guests:
    """Takes all scopes from users whose names begin with `guest`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = scope.get("state", {}).get("principal")
        if principal is not None and principal.user_id.startswith("guest"):
            scope["state"]["principal"] = Principal(principal.user_id, frozenset())
        await self.app(scope, receive, send)


def application(url: str) -> Application:
    return Application(
        name="themes",
        version="1",
        preset_kinds=KINDS,
        database_url=lambda: url,
        middleware=(Middleware(Guests),),
    )


@asynccontextmanager
async def served(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    """Run the application, and give a client that calls it without a socket between them."""
    # It computes for longer than an event loop may be held up for.
    app = await asyncio.to_thread(create_app, application(url))
    async with (
        app.router.lifespan_context(app) as state,
        httpx2.AsyncClient(transport=_transport(app, state), base_url="http://presets") as client,
    ):
        yield client


def _transport(app: ASGIApp, state: Mapping[str, Any] | None) -> httpx2.ASGITransport:
    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": dict(state or {})}, receive, send)

    return httpx2.ASGITransport(with_state)


@contextmanager
def preset_database(server: PostgresAddress) -> Iterator[PostgresAddress]:
    """Make a database that has the foundation's tables."""
    with fresh_database(server) as address:
        asyncio.run(upgrade_all([AlembicManager(address.url)], address.url))
        yield address


def forget_presets(address: PostgresAddress) -> None:
    with psycopg.connect(address.url, autocommit=True) as connection:
        connection.execute(f"TRUNCATE {SCHEMA}.presets")


@dataclass(frozen=True)
class Answer:
    """What either face says: a code where it refuses, and the fields at fault; else what it shows."""

    code: str | None = None
    problems: list[dict[str, str]] = field(default_factory=list)
    preset: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    retry_after: int | None = None

    @property
    def fields(self) -> list[str]:
        return [problem["field"] for problem in self.problems]


@dataclass(frozen=True)
class Page:
    """Names of presets, and what the next page is asked with, where there is one."""

    names: list[str]
    ids: list[str]
    cursor: str | None


class Face(Protocol):
    """How a user asks."""

    first: str
    after: str

    async def create(self, user: str, kind: str, name: str, document: object) -> Answer: ...

    async def read(self, user: str, preset_id: str) -> Answer: ...

    async def replace(self, user: str, preset_id: str, version: int, name: str, document: object) -> Answer: ...

    async def delete(self, user: str, preset_id: str, version: int) -> Answer: ...

    async def page(
        self, user: str, kind: str, first: int = 20, after: str | None = None, *, owner: str | None = None
    ) -> Page | Answer: ...


MakeFace = Callable[[httpx2.AsyncClient], Face]


def encoded(value: object) -> bytes:
    """Encode to JSON, an infinite number as a finite one that is too large."""
    return json.dumps(value).replace("Infinity", "1e999").encode()


def headers(user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {user}", "Content-Type": "application/json"}


class Rest:
    """Over REST."""

    first = "limit"
    after = "cursor"

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def create(self, user: str, kind: str, name: str, document: object) -> Answer:
        return await self._ask(user, "POST", PATH, {"kind": kind, "name": name, "document": document})

    async def read(self, user: str, preset_id: str) -> Answer:
        return await self._ask(user, "GET", f"{PATH}/{preset_id}")

    async def replace(self, user: str, preset_id: str, version: int, name: str, document: object) -> Answer:
        body = {"version": version, "name": name, "document": document}
        return await self._ask(user, "PUT", f"{PATH}/{preset_id}", body)

    async def delete(self, user: str, preset_id: str, version: int) -> Answer:
        return await self._ask(user, "DELETE", f"{PATH}/{preset_id}", {"version": version})

    async def page(
        self, user: str, kind: str, first: int = 20, after: str | None = None, *, owner: str | None = None
    ) -> Page | Answer:
        asked: dict[str, Any] = {"kind": kind, "limit": first, "cursor": after, "owner": owner}
        parameters = {name: value for name, value in asked.items() if value is not None}
        answer = await self._client.get(PATH, params=parameters, headers=headers(user))
        if answer.status_code != 200:
            return _refused(answer)
        body = answer.json()
        items = body["items"]
        return Page([item["name"] for item in items], [item["id"] for item in items], body["next_cursor"])

    async def _ask(self, user: str, method: str, path: str, body: object = None) -> Answer:
        content = None if body is None else encoded(body)
        answer = await self._client.request(method, path, content=content, headers=headers(user))
        if answer.status_code >= 300:
            return _refused(answer)
        return Answer(preset=answer.json() if answer.content else {})


def _refused(answer: httpx2.Response) -> Answer:
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    body = answer.json()
    retry_after = answer.headers.get("retry-after")
    return Answer(
        body["code"], body.get("errors", []), text=body["detail"], retry_after=int(retry_after) if retry_after else None
    )


_SHOWN = "{ id kind name document ownerId version createdAt updatedAt }"


class GraphQL:
    """Over GraphQL."""

    first = "first"
    after = "after"

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def create(self, user: str, kind: str, name: str, document: object) -> Answer:
        query = f"""mutation($kind: String!, $name: String!, $document: JSON!) {{
            answer: createPreset(kind: $kind, name: $name, document: $document) {_SHOWN} }}"""
        return await self._ask(user, query, kind=kind, name=name, document=document)

    async def read(self, user: str, preset_id: str) -> Answer:
        return await self._ask(user, f"query($id: ID!) {{ answer: preset(id: $id) {_SHOWN} }}", id=preset_id)

    async def replace(self, user: str, preset_id: str, version: int, name: str, document: object) -> Answer:
        query = f"""mutation($id: ID!, $version: Int!, $name: String!, $document: JSON!) {{
            answer: updatePreset(id: $id, version: $version, name: $name, document: $document) {_SHOWN} }}"""
        return await self._ask(user, query, id=preset_id, version=version, name=name, document=document)

    async def delete(self, user: str, preset_id: str, version: int) -> Answer:
        query = "mutation($id: ID!, $version: Int!) { answer: deletePreset(id: $id, version: $version) }"
        return await self._ask(user, query, id=preset_id, version=version)

    async def page(
        self, user: str, kind: str, first: int = 20, after: str | None = None, *, owner: str | None = None
    ) -> Page | Answer:
        query = """query($kind: String!, $first: Int!, $after: String, $owner: String) {
            answer: presets(kind: $kind, first: $first, after: $after, owner: $owner) {
                nodes { id name } pageInfo { endCursor hasNextPage } } }"""
        answer = await self.ask(user, query, kind=kind, first=first, after=after, owner=owner)
        if isinstance(answer, Answer):
            return answer
        nodes, info = answer["nodes"], answer["pageInfo"]
        cursor = info["endCursor"] if info["hasNextPage"] else None
        return Page([node["name"] for node in nodes], [node["id"] for node in nodes], cursor)

    async def ask(self, user: str, query: str, **variables: object) -> Any:
        """Return what the field `answer` holds, or the Answer that refuses."""
        content = b'{"query": %b, "variables": %b}' % (json.dumps(query).encode(), encoded(variables))
        answer = (await self._client.post("/graphql", content=content, headers=headers(user))).json()
        if "errors" not in answer:
            return answer["data"]["answer"]
        [error] = answer["errors"]
        extensions = error["extensions"]
        named = [{"field": extensions["field"], "rule": extensions["rule"]}] if "field" in extensions else []
        problems = extensions.get("errors", named)
        return Answer(extensions["code"], problems, text=error["message"], retry_after=extensions.get("retryAfter"))

    async def _ask(self, user: str, query: str, **variables: object) -> Answer:
        answer = await self.ask(user, query, **variables)
        if isinstance(answer, Answer):
            return answer
        if isinstance(answer, str):
            return Answer()
        spelled = {"ownerId": "owner_id", "createdAt": "created_at", "updatedAt": "updated_at"}
        return Answer(preset={spelled.get(name, name): value for name, value in answer.items()})
