"""A whole app on the foundation, spoken to over ASGI: what every service has without doing anything."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any, ClassVar

import httpx2
import pytest
import strawberry
import svcs
from api_server.api.dependencies import provide
from api_server.app import create_app
from api_server.application import Application
from api_server.foundation import FOUNDATION
from api_server.graphql.context import GraphQLContext
from api_server.graphql.part import GraphQLPart
from api_server.services.registry import ServiceRegistry
from api_server.settings import get_settings
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, ConfigDict

router = APIRouter()


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    count: int


class TooManyError(Exception):
    """The test's own visible error."""

    code: ClassVar[str] = "TOO_MANY"
    field = "the_count"
    rule = "should be small"
    retry_after_s = 7


class Counter:
    """A service with a life of its own."""

    alive = 0

    def __init__(self) -> None:
        Counter.alive += 1

    def close(self) -> None:
        Counter.alive -= 1


@router.post("/count")
async def count(body: Body, counter: Annotated[Counter, provide(Counter)]) -> int:
    if body.count > 10:
        raise TooManyError("ten is the most")
    return body.count + Counter.alive


@router.get("/breaks")
async def breaks() -> None:
    raise RuntimeError("a secret of the inside")


@strawberry.type
class CountQuery:
    @strawberry.field
    async def count(self, info: strawberry.Info[GraphQLContext], number: float) -> str:
        if number > 10:
            raise TooManyError("ten is the most")
        counters = [info.context.services.get(Counter) for _ in range(2)]
        await asyncio.sleep(0)
        return f"{len(set(map(id, counters)))} of {Counter.alive} for {info.context.principal}"

    @strawberry.field
    def breaks(self) -> int:
        raise RuntimeError("a secret of the inside")


def register(registry: ServiceRegistry) -> None:
    def factory() -> Any:
        counter = Counter()
        yield counter
        counter.close()

    registry.register_factory(Counter, factory)


APPLICATION = Application(
    name="counting",
    version="7.1",
    register=register,
    routers=lambda: (router,),
    graphql=lambda: GraphQLPart(query=CountQuery),
    errors={TooManyError: 429},
)

Serve = Callable[[Application], AbstractAsyncContextManager[httpx2.AsyncClient]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    get_settings.cache_clear()

    @asynccontextmanager
    async def serving(application: Application) -> AsyncIterator[httpx2.AsyncClient]:
        app = create_app(application)
        async with (
            app.router.lifespan_context(app) as state,
            httpx2.AsyncClient(transport=_transport(app, state), base_url="http://service") as client,
        ):
            yield client

    return serving


def _transport(app: FastAPI, state: Any) -> httpx2.ASGITransport:
    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": dict(state or {})}, receive, send)

    return httpx2.ASGITransport(with_state)


@pytest.fixture
async def client(serve: Serve) -> AsyncIterator[httpx2.AsyncClient]:
    async with serve(APPLICATION) as client:
        yield client


async def test_the_foundation_serves_itself(serve: Serve) -> None:
    async with serve(FOUNDATION) as client:
        assert (await client.get("/version")).json()["name"] == "api_server"
        answer = await client.post("/graphql", json={"query": "{version{name}}"})
        assert answer.json() == {"data": {"version": {"name": "api_server"}}}


async def test_the_application_names_itself_on_every_face(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/version")).json() == {"name": "counting", "version": "7.1"}
    answer = await client.post("/graphql", json={"query": "{version{name version}}"})
    assert answer.json() == {"data": {"version": {"name": "counting", "version": "7.1"}}}


@pytest.mark.parametrize("path", ["/livez", "/ping"])
async def test_liveness_has_two_names(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


async def test_services_live_as_long_as_the_request(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/count", json={"count": 1})).json() == 2
    assert Counter.alive == 0
    await client.post("/count", json={"count": 11})
    assert Counter.alive == 0


async def test_each_graphql_operation_has_one_container(client: httpx2.AsyncClient) -> None:
    query = {"query": "{a: count(number: 1) b: count(number: 2)}"}
    answers = await asyncio.gather(*(client.post("/graphql", json=query) for _ in range(3)))
    for answer in answers:
        assert {value.split(" ")[0] for value in answer.json()["data"].values()} == {"1"}
    assert Counter.alive == 0


class TestRequestIds:
    async def test_each_answer_carries_an_id_of_its_own(self, client: httpx2.AsyncClient) -> None:
        answers = [await client.get(path) for path in ("/livez", "/nowhere", "/breaks", "/livez")]
        assert len({answer.headers["X-Request-ID"] for answer in answers}) == 4

    async def test_a_valid_id_of_the_client_is_kept_as_correlation(self, client: httpx2.AsyncClient) -> None:
        answer = await client.get("/livez", headers={"X-Request-ID": "job-1:a.b_c"})
        assert answer.headers["X-Correlation-ID"] == "job-1:a.b_c"
        assert answer.headers["X-Request-ID"] != "job-1:a.b_c"

    @pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a\tb", 'a"b', "ä", "{x}"])
    async def test_any_other_is_not_repeated(self, client: httpx2.AsyncClient, given: str) -> None:
        answer = await client.get("/livez", headers=[(b"X-Request-ID", given.encode("latin-1"))])
        assert "X-Correlation-ID" not in answer.headers


class TestProblemDetails:
    @pytest.mark.parametrize(
        ("method", "path", "content", "status", "code"),
        [
            ("GET", "/nowhere", None, 404, "NOT_FOUND"),
            ("DELETE", "/livez", None, 405, "METHOD_NOT_ALLOWED"),
            ("POST", "/count", "{", 422, "INVALID_VALUE"),
            ("POST", "/count", "null", 422, "INVALID_VALUE"),
            ("POST", "/count", '{"count": NaN}', 422, "INVALID_VALUE"),
            ("POST", "/count", '{"count": 1e999}', 422, "INVALID_VALUE"),
            ("POST", "/count", '{"\\ud800": 1, "count": "\\ud800"}', 422, "INVALID_VALUE"),
            ("POST", "/count", "\xff", 400, "INVALID_VALUE"),
            ("POST", "/count", "[" * 100_000, 400, "INVALID_VALUE"),
            ("POST", "/count", '{"count": 11}', 429, "TOO_MANY"),
            ("GET", "/breaks", None, 500, "INTERNAL_SERVER_ERROR"),
            ("POST", "/graphql", "null", 400, "BAD_REQUEST"),
            ("POST", "/graphql", "[]", 400, "BAD_REQUEST"),
            ("POST", "/graphql", "[1]", 400, "BAD_REQUEST"),
            ("POST", "/graphql", "1", 400, "BAD_REQUEST"),
            ("POST", "/graphql", '"x"', 400, "BAD_REQUEST"),
            ("POST", "/graphql", "{", 400, "INVALID_VALUE"),
            ("POST", "/graphql", "\xff", 400, "INVALID_VALUE"),
            ("POST", "/graphql", '{"query": 1}', 400, "BAD_REQUEST"),
            ("POST", "/graphql", '{"query": "{version{name}}", "variables": []}', 400, "BAD_REQUEST"),
            ("POST", "/graphql", '{"query": "{version{name}}", "variables": {"x": NaN}}', 400, "INVALID_VALUE"),
            ("POST", "/graphql", "[" * 60_000, 400, "INVALID_VALUE"),
            ("GET", "/graphql?query=%7Bversion%7Bname%7D%7D&variables=1", None, 400, "BAD_REQUEST"),
        ],
    )
    async def test_every_error_has_one_shape(
        self, client: httpx2.AsyncClient, method: str, path: str, content: str | None, status: int, code: str
    ) -> None:
        headers = {"Content-Type": "application/json"}
        body = content.encode("latin-1") if content is not None else None
        answer = await client.request(method, path, content=body, headers=headers)
        assert answer.status_code == status, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json()
        assert {"type", "title", "status", "detail", "code"} <= set(problem)
        assert (problem["status"], problem["code"]) == (status, code)
        assert "secret" not in answer.text

    async def test_a_problem_names_field_and_rule(self, client: httpx2.AsyncClient) -> None:
        missing = (await client.post("/count", json={})).json()
        assert missing["errors"] == [{"field": "count", "rule": "is required"}]
        text = (await client.post("/count", json={"count": "many"})).json()
        assert text["errors"][0]["field"] == "count"
        assert text["errors"][0]["rule"].startswith("should be a valid integer")

    @pytest.mark.parametrize("path", ["/count", "/graphql"])
    @pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "nonsense"])
    async def test_a_body_that_does_not_say_that_it_is_json_is_told_to(
        self, client: httpx2.AsyncClient, path: str, content_type: str | None
    ) -> None:
        headers = {"Content-Type": content_type} if content_type else {}
        answer = await client.post(path, content='{"count": 1, "query": "{version{name}}"}', headers=headers)
        assert answer.status_code == 415
        assert answer.json()["detail"] == "The Content-Type should be application/json."

    async def test_an_answer_is_short_however_much_is_wrong(self, client: httpx2.AsyncClient) -> None:
        problem = (await client.post("/count", json={str(number): 1 for number in range(1000)})).json()
        assert len(problem["errors"]) == 50
        assert problem["detail"].endswith("; and 998 more")

    async def test_an_error_of_the_application_tells_all_it_knows(self, client: httpx2.AsyncClient) -> None:
        answer = await client.post("/count", json={"count": 11})
        assert answer.headers["Retry-After"] == "7"
        assert answer.json()["detail"] == "ten is the most"
        assert answer.json()["errors"] == [{"field": "the_count", "rule": "should be small"}]

    async def test_an_unexpected_error_is_found_in_the_log_by_its_id(
        self, capfd: pytest.CaptureFixture[str], client: httpx2.AsyncClient
    ) -> None:
        answer = await client.get("/breaks")
        lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
        (line,) = [line for line in lines if line.get("error_id") == answer.json()["error_id"]]
        assert "a secret of the inside" in line["exception"]

    async def test_what_is_not_allowed_tells_what_is(self, client: httpx2.AsyncClient) -> None:
        assert set((await client.delete("/livez")).headers["Allow"].split(", ")) == {"GET", "HEAD"}


class TestGraphQLErrors:
    @pytest.mark.parametrize(
        ("query", "variables", "code"),
        [
            ("{", None, "GRAPHQL_PARSE_FAILED"),
            ("{nothing}", None, "GRAPHQL_VALIDATION_FAILED"),
            ('{count(number: "x")}', None, "GRAPHQL_VALIDATION_FAILED"),
            ("query($n: Float!){count(number: $n)}", {"n": "x"}, "GRAPHQL_VALIDATION_FAILED"),
            ("query($n: Float!){count(number: $n)}", None, "GRAPHQL_VALIDATION_FAILED"),
            ("{count(number: 11)}", None, "TOO_MANY"),
            ("{count(number: 1e999)}", None, "TOO_MANY"),
            ("{breaks}", None, "INTERNAL_SERVER_ERROR"),
        ],
    )
    async def test_every_error_has_a_code(
        self, client: httpx2.AsyncClient, query: str, variables: dict[str, Any] | None, code: str
    ) -> None:
        answer = await client.post("/graphql", json={"query": query, "variables": variables})
        assert answer.status_code == 200
        (error,) = answer.json()["errors"]
        assert error["extensions"]["code"] == code
        assert "secret" not in answer.text

    async def test_a_field_is_spelled_as_in_the_schema(self, client: httpx2.AsyncClient) -> None:
        answer = await client.post("/graphql", json={"query": "{count(number: 11)}"})
        (error,) = answer.json()["errors"]
        assert error["extensions"] == {
            "code": "TOO_MANY",
            "field": "theCount",
            "rule": "should be small",
            "retryAfter": 7,
        }

    async def test_a_client_s_mistake_leaves_no_traceback(
        self, capfd: pytest.CaptureFixture[str], client: httpx2.AsyncClient
    ) -> None:
        for query in ("{", "{nothing}", "{count(number: 11)}"):
            await client.post("/graphql", json={"query": query})
        assert "Traceback" not in capfd.readouterr().err

    async def test_mutations_have_no_door_by_get(self, client: httpx2.AsyncClient) -> None:
        answer = await client.get("/graphql", params={"query": "mutation{x}"})
        assert answer.status_code == 405


class TestIdentity:
    async def test_in_development_the_user_is_who_they_say(self, client: httpx2.AsyncClient) -> None:
        query = {"query": "{count(number: 1)}"}
        nobody = await client.post("/graphql", json=query)
        ada = await client.post("/graphql", json=query, auth=("ada", "x"))
        assert "user_id='developer'" in nobody.json()["data"]["count"]
        assert "user_id='ada'" in ada.json()["data"]["count"]

    async def test_credentials_that_cannot_be_read_are_refused(self, client: httpx2.AsyncClient) -> None:
        answer = await client.get("/version", headers={"Authorization": "Basic"})
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"]
        assert answer.headers["X-Request-ID"]
        assert answer.json()["code"] == "UNAUTHENTICATED"

    async def test_production_without_a_provider_starts_and_answers_401(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ENV_TYPE", "production")
        get_settings.cache_clear()
        async with serve(APPLICATION) as client:
            for path in ("/livez", "/ping", "/readyz", "/api/v1/health"):
                assert (await client.get(path)).status_code == 200
            for method, path in [
                ("GET", "/version"),
                ("POST", "/livez"),
                ("POST", "/readyz"),
                ("GET", "/graphql"),
                ("POST", "/graphql"),
                ("GET", "/docs"),
                ("GET", "/nowhere"),
                ("GET", "/livez/"),
                ("GET", "//livez"),
            ]:
                answer = await client.request(method, path, headers={"Authorization": "Bearer x"})
                assert answer.status_code == 401, path
        get_settings.cache_clear()

    async def test_a_host_header_cannot_name_another_path(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ENV_TYPE", "production")
        get_settings.cache_clear()
        async with serve(APPLICATION) as client:
            answer = await client.get("/version", headers={"Host": "service/livez?"})
            assert answer.status_code == 401
        get_settings.cache_clear()


async def test_parts_that_clash_do_not_start(serve: Serve) -> None:
    @strawberry.type
    class Rival:
        @strawberry.field
        def version(self) -> str:
            return "mine"

    application = Application(name="rival", version="1", graphql=lambda: GraphQLPart(query=Rival))
    with pytest.raises(ValueError, match="Query fields defined by more than one part: version"):
        create_app(application)


async def test_what_is_started_is_stopped_in_reverse(serve: Serve) -> None:
    happened: list[str] = []

    async def lifespan(app: FastAPI, registry: svcs.Registry) -> AsyncGenerator[None, None]:
        happened.append("started")
        yield
        happened.append("stopped")

    async with serve(Application(name="x", version="1", lifespan=lifespan)):
        assert happened == ["started"]
    assert happened == ["started", "stopped"]


async def test_a_start_that_fails_stops_what_had_started() -> None:
    happened: list[str] = []

    async def lifespan(app: FastAPI, registry: svcs.Registry) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            happened.append("stopped")

    def broken_stages() -> Any:
        raise RuntimeError("no stages")

    app = create_app(Application(name="x", version="1", lifespan=lifespan, stages=broken_stages))
    with pytest.raises(RuntimeError, match="no stages"):
        async with app.router.lifespan_context(app):
            pass
    assert happened == ["stopped"]
