"""What GraphQL refuses it refuses by every way in, and what fails inside stays there."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from guarded_app import GUARDED, SECRET, resolved
from limited_documents import COUNTED, LIMITED
from live_app import served
from structlog.testing import capture_logs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError
from websockets.typing import Subprotocol

TRANSPORT, LEGACY = "graphql-transport-ws", "graphql-ws"
SSE = {"Accept": "text/event-stream"}

Answer = dict[str, Any]
Ask = Callable[[str], Awaitable[Answer]]


@pytest.fixture(autouse=True)
def nothing_resolved() -> Iterator[None]:
    resolved.clear()
    yield
    resolved.clear()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with served(GUARDED) as service:
        yield service.port


@pytest.fixture
async def client(port: int) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", verify=False, trust_env=False) as client:
        yield client


@pytest.fixture(params=["http", "sse", TRANSPORT])
async def ask(request: pytest.FixtureRequest, port: int, client: httpx2.AsyncClient) -> AsyncIterator[Ask]:
    """Ask by one of the ways by which a query is answered."""
    async with AsyncExitStack() as ways:
        if request.param == TRANSPORT:
            socket = await ways.enter_async_context(introduced(port, TRANSPORT))
            yield lambda query: over_socket(socket, query)
        else:
            yield lambda query: over_http(client, query, SSE if request.param == "sse" else {})


async def over_http(client: httpx2.AsyncClient, query: str, headers: dict[str, str]) -> Answer:
    answer = await client.post("/graphql", json={"query": query}, headers=headers)
    assert answer.status_code == 200
    if not headers:
        document: Answer = answer.json()
        return document
    (event,) = (line for line in answer.text.splitlines() if line.startswith("data: {"))
    streamed: Answer = json.loads(event.removeprefix("data: "))
    return streamed


@asynccontextmanager
async def introduced(port: int, protocol: str) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws://127.0.0.1:{port}/graphql", subprotocols=[Subprotocol(protocol)]) as socket:
        await socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(await socket.recv()) == {"type": "connection_ack"}
        yield socket


async def over_socket(socket: ClientConnection, query: str) -> Answer:
    """Ask on a socket, and return its first answer as HTTP gives it."""
    start = "start" if socket.subprotocol == LEGACY else "subscribe"
    await socket.send(json.dumps({"id": str(uuid4()), "type": start, "payload": {"query": query}}))
    while (message := json.loads(await socket.recv()))["type"] == "complete":
        pass  # of the operation before
    payload = message["payload"]
    if message["type"] == "error":
        return {"data": None, "errors": payload if isinstance(payload, list) else [payload]}
    document: Answer = payload
    return document


async def test_each_limit_holds_by_every_way_in(ask: Ask) -> None:
    for limit, (allowed, document) in COUNTED.items():
        answer = await ask(document(allowed + 1))
        assert answer["data"] is None
        assert [error["extensions"] for error in answer["errors"]] == [
            {"code": "GRAPHQL_LIMIT_EXCEEDED", "limit": limit, "allowed": allowed}
        ]
    assert resolved == []


async def test_what_is_allowed_is_allowed_by_every_way_in(ask: Ask) -> None:
    for limit, (allowed, document) in LIMITED.items():
        # A body, and a frame, may be as long as a document, and says more.
        answer = await ask(document(allowed - 1024 if limit == "characters" else allowed))
        assert answer["data"], limit
        assert "errors" not in answer
    assert len(resolved) >= len(LIMITED)


@pytest.mark.parametrize("limit", ["tokens", "comments"])
async def test_a_document_that_is_too_long_to_read_is_no_graphql(
    port: int, client: httpx2.AsyncClient, limit: str
) -> None:
    allowed, document = LIMITED[limit]
    expected = {"code": "GRAPHQL_LIMIT_EXCEEDED", "limit": limit, "allowed": allowed}
    for headers in ({}, SSE):
        answer = await over_http(client, document(allowed + 1), headers)
        assert [error["extensions"] for error in answer["errors"]] == [expected]
    async with introduced(port, TRANSPORT) as socket:
        with pytest.raises(ConnectionClosedError) as closed:
            await over_socket(socket, document(allowed + 1))
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4400, f"A document should have at most 400 {limit}.")
    assert resolved == []


@pytest.mark.parametrize("protocol", [TRANSPORT, LEGACY, "sse"])
async def test_subscriptions_are_limited_as_everything_is(port: int, client: httpx2.AsyncClient, protocol: str) -> None:
    query = "subscription {ticks " + "@skip(if: false) " * 21 + "}"
    if protocol == "sse":
        answer = await over_http(client, query, SSE)
    else:
        async with introduced(port, protocol) as socket:
            answer = await over_socket(socket, query)
    assert [error["extensions"]["limit"] for error in answer["errors"]] == ["directives"]


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("query", "http"),
        ("query", "sse"),
        ("query", TRANSPORT),
        ("subscription", "sse"),
        ("subscription", TRANSPORT),
        ("subscription", LEGACY),
    ],
)
async def test_what_an_exception_says_stays_in_the_log(
    port: int, client: httpx2.AsyncClient, kind: str, way: str
) -> None:
    with capture_logs() as log:
        if way in {"http", "sse"}:
            answer = await over_http(client, f"{kind} {{failing}}", SSE if way == "sse" else {})
        else:
            async with introduced(port, way) as socket:
                answer = await over_socket(socket, f"{kind} {{failing}}")
    (error,) = answer["errors"]
    assert SECRET not in json.dumps(answer)
    assert error["extensions"]["code"] == "INTERNAL_SERVER_ERROR"
    (line,) = (line for line in log if line["event"] == "operation failed")
    assert line["error_id"] == error["extensions"]["errorId"]


async def test_many_operations_in_one_request_are_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/graphql", json=[{"query": "{answer}"}, {"query": "{answer}"}])
    assert answer.status_code == 400
    assert resolved == []


async def test_a_mutation_is_not_done_by_get(client: httpx2.AsyncClient) -> None:
    parameters: dict[str, str]
    for parameters in (
        {"query": "mutation {change}"},
        {"query": "query Q {answer} mutation M {change}", "operationName": "M"},
        {"query": "mutation M {change} query Q {answer}"},
        {"query": "mutation ($a: Int) {change}", "variables": "{}"},
    ):
        answer = await client.get("/graphql", params=parameters)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
        assert "mutations are not allowed when using GET" in answer.text
    assert resolved == []


async def test_other_methods_are_told_which_there_are(client: httpx2.AsyncClient) -> None:
    for method in ("DELETE", "HEAD", "OPTIONS", "PATCH", "PUT"):
        answer = await client.request(method, "/graphql")
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST")


@pytest.mark.parametrize("name", ["variables", "extensions"])
async def test_a_parameter_may_be_null_and_says_itself_what_is_wrong_with_it(
    client: httpx2.AsyncClient, name: str
) -> None:
    parameters = {"query": "{answer}"}
    for given in ("null", "{}"):
        answer = await client.get("/graphql", params={**parameters, name: given})
        assert answer.json()["data"] == {"answer": 42}
    for given, sentence in (("[]", f"`{name}` must be an object or null"), ("{", f"'{name}' should be valid JSON")):
        answer = await client.get("/graphql", params={**parameters, name: given})
        assert answer.status_code == 400
        assert sentence in answer.json()["detail"]


async def test_a_path_that_is_almost_right_leads_to_no_other_host(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/graphql/", headers={"Host": "elsewhere.example"})
    assert answer.status_code == 404
    assert "location" not in answer.headers


async def test_the_query_beside_a_mutation_is_answered_by_get(client: httpx2.AsyncClient) -> None:
    query = "mutation M {change} query Q {answer}"
    answer = await client.get("/graphql", params={"query": query, "operationName": "Q"})
    assert answer.json()["data"] == {"answer": 42}
    assert resolved == ["answer"]


async def test_what_a_foreign_page_can_send_unasked_is_refused(client: httpx2.AsyncClient) -> None:
    """A page of another origin can post forms and plain text without the browser asking whether it may."""
    body = json.dumps({"query": "mutation {change}"})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "text/json"):
        answer = await client.post("/graphql", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 415, kind
    assert resolved == []


async def test_uploads_are_refused(client: httpx2.AsyncClient) -> None:
    operations = json.dumps({"query": "mutation {change}"})
    answer = await client.post("/graphql", data={"operations": operations, "map": "{}"}, files={"0": b"file"})
    assert answer.status_code == 415
    assert resolved == []


async def test_an_operation_nobody_knows_is_not_repeated_at_length(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/graphql", json={"query": "query Q {answer}", "operationName": "a" * 50_000})
    assert answer.status_code == 400
    assert len(answer.text) < 1500
    assert resolved == []


async def test_production_tells_neither_its_schema_nor_what_may_have_been_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("API_SERVER_GRAPHQL_INTROSPECTION", "false")
    monkeypatch.setenv("API_SERVER_GRAPHQL_SUGGESTIONS", "false")
    async with served(GUARDED) as service, httpx2.AsyncClient(verify=False, trust_env=False) as client:
        url = f"http://127.0.0.1:{service.port}/graphql"
        told = (await client.post(url, json={"query": "{__schema{types{name}}}"})).json()
        assert [error["extensions"]["code"] for error in told["errors"]] == ["INTROSPECTION_DISABLED"]
        meant = (await client.post(url, json={"query": "{answe}"})).json()
        assert [error["message"] for error in meant["errors"]] == ["Cannot query field 'answe' on type 'Query'."]
