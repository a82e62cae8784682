"""What GraphQL says of presets beyond what REST says: documents that are written into the query."""

from collections.abc import AsyncIterator, Iterator

import pytest
from api_server.local.postgres import PostgresAddress
from preset_faces import Answer, GraphQL, forget_presets, headers, preset_database, served


@pytest.fixture(scope="module")
def kept(postgres: PostgresAddress) -> Iterator[PostgresAddress]:
    with preset_database(postgres) as address:
        yield address


@pytest.fixture
def emptied(kept: PostgresAddress) -> PostgresAddress:
    forget_presets(kept)
    return kept


@pytest.fixture
async def face(emptied: PostgresAddress) -> AsyncIterator[GraphQL]:
    async with served(emptied.url) as client:
        yield GraphQL(client)


async def test_a_document_may_be_written_into_the_query(face: GraphQL) -> None:
    query = """mutation($size: Int) { answer: createPreset(
        kind: "note", name: "x", document: {is: [1, 2.5, true, null, "ä", {a: $size}]}) { document } }"""
    answer = await face.ask("alice", query, size=7)
    assert answer == {"document": {"is": [1, 2.5, True, None, "ä", {"a": 7}], "weight": 0.0}}


LITERALS: list[tuple[str, str, str | None]] = [
    ("{contrast: 1e999}", "INVALID_VALUE", "document.contrast"),
    ("{contrast: -1e999}", "INVALID_VALUE", "document.contrast"),
    ("{contrast: NaN}", "INVALID_VALUE", "document.contrast"),
    ("{contrast: Infinity}", "INVALID_VALUE", "document.contrast"),
    ("{contrast: $missing}", "INVALID_VALUE", "document.contrast"),
    ("{contrast: " + "9" * 1000 + "}", "INVALID_VALUE", "document.contrast"),
    ("{contrast: " + "9" * 5000 + "}", "GRAPHQL_LIMIT_EXCEEDED", None),
    ("{text_color: 1}", "INVALID_VALUE", "document.text_color"),
    ("[]", "INVALID_VALUE", "document"),
    ("7", "INVALID_VALUE", "document"),
    ("null", "GRAPHQL_VALIDATION_FAILED", None),
    ("{contrast: -Infinity}", "GRAPHQL_PARSE_FAILED", None),
    ('{background: "\\ud800"}', "GRAPHQL_PARSE_FAILED", None),
    ("[" * 5000 + "]" * 5000, "GRAPHQL_PARSE_FAILED", None),
]


async def test_a_literal_that_cannot_be_kept_has_a_code(face: GraphQL) -> None:
    for literal, code, field in LITERALS:
        variables = "($missing: Int)" if "$missing" in literal else ""
        query = (
            f'mutation{variables} {{ answer: createPreset(kind: "theme", name: "x", document: {literal}) {{ id }} }}'
        )
        refused = await face.ask("alice", query)
        assert isinstance(refused, Answer), literal
        assert (refused.code, refused.fields) == (code, [field] if field else []), literal


async def test_an_error_names_all_fields_that_are_wrong(face: GraphQL) -> None:
    query = """mutation { answer: createPreset(
        kind: "theme", name: "", document: {contrast: -1, text_color: 1}) { id } }"""
    refused = await face.ask("alice", query)
    assert refused.fields == ["name", "document.text_color", "document.contrast"]
    assert refused.problems[1]["rule"] == "should be a valid string"


async def test_a_version_beyond_what_is_counted_is_no_int(face: GraphQL) -> None:
    refused = await face.ask("alice", "mutation { answer: deletePreset(id: 1, version: 2147483648) }")
    assert refused.code == "GRAPHQL_VALIDATION_FAILED"


async def test_the_extensions_have_the_first_problem_too(face: GraphQL) -> None:
    query = 'mutation { createPreset(kind: "note", name: "x", document: {is: 1e999}) { id } }'
    answer = await face._client.post("/graphql", json={"query": query})
    [error] = answer.json()["errors"]
    problem = {"field": "document.is", "rule": "should be a finite number"}
    assert error["extensions"] == {"code": "INVALID_VALUE", **problem, "errors": [problem]}
    assert error["message"] == "document.is should be a finite number"


async def test_each_field_of_an_operation_answers_for_itself(face: GraphQL) -> None:
    kept = (await face.create("alice", "note", "kept", {})).preset["id"]
    query = """mutation($id: ID!) {
        first: createPreset(kind: "note", name: "first", document: {}) { name }
        taken: createPreset(kind: "note", name: "kept", document: {}) { name }
        stale: updatePreset(id: $id, version: 7, name: "kept", document: {}) { name }
        unknown: deletePreset(id: "00000000-0000-0000-0000-000000000000", version: 1)
        gone: deletePreset(id: $id, version: 1) }"""
    # An id may be spelled in more than one way; it is answered in one.
    body = {"query": query, "variables": {"id": kept.replace("-", "").upper()}}
    answer = (await face._client.post("/graphql", json=body, headers=headers("alice"))).json()
    assert answer["data"] == {"first": {"name": "first"}, "taken": None, "stale": None, "unknown": None, "gone": kept}
    codes = {error["path"][0]: error["extensions"]["code"] for error in answer["errors"]}
    assert codes == {"taken": "ALREADY_EXISTS", "stale": "VERSION_CONFLICT", "unknown": "NOT_FOUND"}
    query = 'query($id: ID!) { gone: preset(id: $id) { id } presets(kind: "note") { nodes { name } } }'
    body = {"query": query, "variables": {"id": kept}}
    answer = (await face._client.post("/graphql", json=body, headers=headers("alice"))).json()
    assert answer["data"] == {"gone": None, "presets": {"nodes": [{"name": "first"}]}}
