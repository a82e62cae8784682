"""What REST says of presets beyond what GraphQL says: versions as entity tags, query parameters, bodies."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest
from api_server.identifiers import uuid7
from api_server.local.postgres import PostgresAddress
from preset_faces import PATH, forget_presets, headers, preset_database, served


@pytest.fixture(scope="module")
def kept(postgres: PostgresAddress) -> Iterator[PostgresAddress]:
    with preset_database(postgres) as address:
        yield address


@pytest.fixture
def emptied(kept: PostgresAddress) -> PostgresAddress:
    forget_presets(kept)
    return kept


@pytest.fixture
async def client(emptied: PostgresAddress) -> AsyncIterator[httpx2.AsyncClient]:
    async with served(emptied.url) as client:
        client.headers.update(headers("alice"))
        yield client


async def created(client: httpx2.AsyncClient, name: str = "dark") -> httpx2.Response:
    answer = await client.post(PATH, json={"kind": "theme", "name": name, "document": {}})
    assert answer.status_code == 201
    return answer


async def test_what_is_created_has_a_place_and_a_tag(client: httpx2.AsyncClient) -> None:
    answer = await created(client)
    assert answer.headers["etag"] == '"1"'
    read = await client.get(answer.headers["location"])
    assert (read.status_code, read.headers["etag"], read.json()) == (200, '"1"', answer.json())


async def test_a_preset_is_put_as_it_was_read(client: httpx2.AsyncClient) -> None:
    body = (await created(client)).json()
    body["document"]["contrast"] = 2
    answer = await client.put(f"{PATH}/{body['id']}", json=body)
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    assert answer.json() == {**body, "version": 2, "updated_at": answer.json()["updated_at"]}
    assert (await client.put(f"{PATH}/{body['id']}", json=body)).status_code == 409


async def test_the_version_may_stand_in_the_header(client: httpx2.AsyncClient) -> None:
    answer = await created(client)
    place, body = answer.headers["location"], {"name": "dark", "document": {}}
    tag = answer.headers["etag"]
    assert (await client.put(place, json=body, headers={"If-Match": tag})).headers["etag"] == '"2"'
    assert (await client.put(place, json=body, headers={"If-Match": tag})).status_code == 409
    both = {**body, "version": 2}
    assert (await client.put(place, json=both, headers={"If-Match": '"2"'})).status_code == 200
    assert (await client.delete(place, headers={"If-Match": '"2"'})).status_code == 409
    gone = await client.delete(place, headers={"If-Match": '"3"'})
    assert (gone.status_code, gone.content) == (204, b"")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_without_a_version_nothing_is_changed(client: httpx2.AsyncClient, method: str) -> None:
    place = (await created(client)).headers["location"]
    body = {"name": "dark", "document": {}} if method == "PUT" else None
    answer = await client.request(method, place, json=body)
    assert (answer.status_code, answer.json()["code"]) == (428, "PRECONDITION_REQUIRED")
    assert "If-Match" in answer.json()["detail"]
    assert "body" in answer.json()["detail"]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_header_that_names_no_version_is_named(client: httpx2.AsyncClient, method: str) -> None:
    place = (await created(client)).headers["location"]
    body = {"version": 1} | ({"name": "dark", "document": {}} if method == "PUT" else {})
    for tag in (
        "*",
        'W/"1"',
        "1",
        '"0"',
        '"-1"',
        '"x"',
        '"2147483648"',
        '"99999999999"',
        '"1", "2"',
        '"01"',
        "",
        '"2"',
    ):
        answer = await client.request(method, place, json=body, headers={"If-Match": tag})
        assert answer.status_code == 422
        assert [problem["field"] for problem in answer.json()["errors"]] == ["If-Match"]
    assert (await client.get(place)).json()["version"] == 1


async def test_what_cannot_be_changed_should_be_right_where_it_stands(client: httpx2.AsyncClient) -> None:
    body = (await created(client)).json()
    place = f"{PATH}/{body['id']}"
    for field, value in {"id": str(uuid7()), "kind": "note", "version": "1", "owner_id": 7, "colour": 1}.items():
        answer = await client.put(place, json={**body, field: value})
        assert answer.status_code == 422
        assert [problem["field"] for problem in answer.json()["errors"]] == [field]
    ignored = await client.put(place, json={**body, "owner_id": "bob", "created_at": "1999-12-31T00:00:00Z"})
    assert ignored.json()["owner_id"] == "alice"
    assert ignored.json()["created_at"] == body["created_at"]


async def test_query_parameters_are_known_and_right(client: httpx2.AsyncClient) -> None:
    wrong: list[tuple[dict[str, str], str]] = [
        ({}, "kind"),
        ({"kind": "theme", "first": "2"}, "first"),
        ({"kind": "theme", "limit": "x"}, "limit"),
        ({"kind": "theme", "limit": "9" * 5000}, "limit"),
        ({"kind": "\x00"}, "kind"),
    ]
    for parameters, field in wrong:
        answer = await client.get(PATH, params=parameters)
        assert answer.status_code == 422
        assert [problem["field"] for problem in answer.json()["errors"]] == [field]


async def test_a_page_says_how_the_next_one_is_asked_for(client: httpx2.AsyncClient) -> None:
    places = [(await created(client, f"{number}")).headers["location"] for number in range(3)]
    first = (await client.get(PATH, params={"kind": "theme", "limit": 2})).json()
    assert first["items"] == [(await client.get(place)).json() for place in places[:2]]
    rest = await client.get(PATH, params={"kind": "theme", "limit": 2, "cursor": first["next_cursor"]})
    assert rest.json() == {"items": [(await client.get(places[2])).json()], "next_cursor": None}


BODIES: list[tuple[bytes, int]] = [
    (b"{", 422),
    (b"[]", 422),
    (b"null", 422),
    (b'{"kind": "theme", "name": "x", "document": {"contrast": NaN}}', 422),
    (b'{"kind": "theme", "name": "x", "document": {"contrast": -Infinity}}', 422),
    (b'{"kind": "theme", "name": "x", "document": {"contrast": 1e999}}', 422),
    (b'{"kind": "theme", "name": "x", "document": null}', 422),
    (b'{"kind": "theme", "name": 1, "document": {}}', 422),
    (b'{"kind": "theme", "name": "x", "document": {}, "owner_id": "bob"}', 422),
    (b'{"kind": "Th\\u0000eme", "name": "x", "document": {}}', 422),
    (b'{"kind": "note", "name": "x", "document": {"is": %s}}' % (b"9" * 5000), 400),
    (b'{"kind": "note", "name": "x", "document": {"is": %s}}' % (b"[" * 100_000), 400),
    (b'{"kind": "note", "name": "\xff", "document": {}}', 400),
]


async def test_bodies_that_are_no_preset_are_refused_with_their_fields(client: httpx2.AsyncClient) -> None:
    for body, status in BODIES:
        answer = await client.post(PATH, content=body)
        assert answer.status_code == status, (body[:80], answer.text)
        assert answer.json()["errors"], answer.text
    assert (await client.get(PATH, params={"kind": "theme"})).json()["items"] == []
    assert (await client.post(PATH, content=b"{}", headers={"Content-Type": "text/plain"})).status_code == 415


@pytest.fixture
def very_many_fields() -> bytes:
    return json.dumps({f"{number}": 1 for number in range(80_000)}).encode()


async def test_a_body_of_very_many_fields_holds_up_nobody(client: httpx2.AsyncClient, very_many_fields: bytes) -> None:
    """The guard of the event loop watches."""
    place = (await created(client)).headers["location"]
    for method, path in (("POST", PATH), ("PUT", place), ("DELETE", place)):
        answer = await client.request(method, path, content=very_many_fields)
        assert answer.status_code == 422
        assert answer.json()["errors"] == [{"field": "body", "rule": "should have at most 20 fields"}]


async def test_a_kind_that_is_none_is_told_the_rule(client: httpx2.AsyncClient) -> None:
    for kind in ("Theme", "x" * 64, "theme\n", "ä"):
        answer = await client.post(PATH, json={"kind": kind, "name": "x", "document": {}})
        rule = "should be up to 63 lower-case letters, digits and underscores, and begin with a letter"
        assert answer.json()["errors"] == [{"field": "kind", "rule": rule}]


async def test_a_path_says_which_methods_it_has(client: httpx2.AsyncClient) -> None:
    place = (await created(client)).headers["location"]
    for path, allowed in ((PATH, "GET, HEAD, POST"), (place, "DELETE, GET, HEAD, PUT")):
        answer = await client.request("PATCH", path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert answer.json()["code"] == "METHOD_NOT_ALLOWED"
    for url in (place, f"{PATH}?kind=theme"):
        head = await client.head(url)
        assert (head.status_code, head.headers.get("etag")) == (200, (await client.get(url)).headers.get("etag"))


async def test_the_documentation_names_every_error(client: httpx2.AsyncClient) -> None:
    paths: dict[str, Any] = (await client.get("/openapi.json")).json()["paths"]
    documented = {
        (path, method): set(operation["responses"])
        for path, operations in paths.items()
        if path.startswith(PATH)
        for method, operation in operations.items()
    }
    of_a_body = {"400", "401", "403", "409", "413", "415", "422", "500", "503"}
    assert documented == {
        (PATH, "post"): {"201", *of_a_body},
        (PATH, "get"): {"200", "401", "403", "422", "500", "503"},
        (f"{PATH}/{{id}}", "get"): {"200", "401", "404", "422", "500", "503"},
        (f"{PATH}/{{id}}", "put"): {"200", "404", "428", *of_a_body},
        (f"{PATH}/{{id}}", "delete"): {"204", "404", "428", *of_a_body},
    }
    assert list(paths[PATH]["post"]["responses"]["409"]["content"]) == ["application/problem+json"]
