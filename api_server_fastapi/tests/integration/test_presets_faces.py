"""Presets, asked for over REST and over GraphQL, which promise the same."""

import time
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import httpx2
import pytest
from api_server.identifiers import uuid7
from api_server.local.postgres import PostgresAddress
from preset_faces import Answer, Face, GraphQL, MakeFace, Page, Rest, forget_presets, preset_database, served


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
        yield client


@pytest.fixture(params=[Rest, GraphQL])
def face(client: httpx2.AsyncClient, request: pytest.FixtureRequest) -> Face:
    make: MakeFace = request.param
    return make(client)


async def test_a_document_is_kept_complete_with_its_defaults(face: Face) -> None:
    created = (await face.create("alice", "theme", "dark", {"background": "#111"})).preset
    document = {"background": "#111", "text_color": "#000000", "sizes": [12, 16], "contrast": 1.0}
    assert created["document"] == document
    assert (created["kind"], created["name"], created["owner_id"]) == ("theme", "dark", "alice")
    assert created["version"] == 1
    assert (await face.read("alice", created["id"])).preset == created


async def test_a_preset_is_replaced_and_deleted(face: Face) -> None:
    created = (await face.create("alice", "theme", "dark", {})).preset
    replaced = (await face.replace("alice", created["id"], 1, "darker", {"contrast": 2})).preset
    assert (replaced["name"], replaced["document"]["contrast"], replaced["version"]) == ("darker", 2, 2)
    assert replaced["updated_at"] > replaced["created_at"] == created["created_at"]
    assert (await face.read("alice", created["id"])).preset == replaced
    assert (await face.delete("alice", created["id"], 2)).code is None
    assert (await face.read("alice", created["id"])).code == "NOT_FOUND"


async def test_what_was_read_is_written_again_as_it_is(face: Face) -> None:
    """A field that documents call by an alias, a number that PostgreSQL writes without exponent, any text."""
    document = {"is": {"a": 1e22, "b": 1e-300, "c": "\U0001f600 \\u0000", "d": 2**60}, "weight": 1e308}
    created = (await face.create("alice", "note", "every", document)).preset
    replaced = (await face.replace("alice", created["id"], 1, "every", created["document"])).preset
    for preset in (created, replaced):
        assert preset["document"]["is"] == document["is"]
        assert float(preset["document"]["weight"]) == 1e308


async def test_nobody_else_sees_changes_or_deletes_a_preset(face: Face) -> None:
    created = (await face.create("alice", "theme", "dark", {})).preset
    preset_id = created["id"]
    refused = [
        await face.read("bob", preset_id),
        await face.replace("bob", preset_id, 1, "mine", {}),
        await face.replace("bob", preset_id, 7, "mine", {}),
        await face.delete("bob", preset_id, 1),
    ]
    unknown = str(uuid7())
    assert [answer.code for answer in refused] == ["NOT_FOUND"] * 4
    assert {answer.text for answer in refused} == {f"there is no preset {preset_id}"}
    assert (await face.read("bob", unknown)).text == f"there is no preset {unknown}"
    assert await face.page("bob", "theme") == Page([], [], None)
    assert (await face.read("alice", preset_id)).preset == created


async def test_an_administrator_reads_anybodys_presets_and_changes_none(face: Face) -> None:
    created = (await face.create("alice", "theme", "dark", {})).preset
    preset_id = created["id"]
    assert (await face.read("admin", preset_id)).preset == created
    refused = [
        await face.replace("admin", preset_id, 1, "mine", {}),
        await face.replace("admin", preset_id, 7, "mine", {}),
        await face.delete("admin", preset_id, 1),
    ]
    assert [answer.code for answer in refused] == ["NOT_FOUND"] * 3
    assert (await face.read("alice", preset_id)).preset == created


async def ids_of(face: Face, user: str, owner: str | None, after: str | None = None) -> list[str]:
    page = await face.page(user, "theme", 20, after, owner=owner)
    assert isinstance(page, Page)
    return page.ids


async def test_an_administrator_lists_whose_presets_are_named(face: Face) -> None:
    ids = [(await face.create(user, "theme", "dark", {})).preset["id"] for user in ("alice", "bob", "admin")]
    ids.append((await face.create("bob", "theme", "default", {})).preset["id"])
    await face.create("alice", "note", "other kind", {})
    listed = {owner: await ids_of(face, "admin", owner) for owner in (None, "admin", "alice", "bob", "*")}
    assert listed == {None: ids[2:], "admin": [ids[2]], "alice": [ids[0]], "bob": [ids[1], ids[3]], "*": ids}
    first = await face.page("admin", "theme", 3, owner="*")
    assert isinstance(first, Page)
    assert await ids_of(face, "admin", "*", first.cursor) == ids[3:]
    # The cursor shows no more to somebody else.
    assert await ids_of(face, "alice", None, first.cursor) == [ids[3]]


async def test_who_is_none_lists_their_own_presets_only(face: Face) -> None:
    own = (await face.create("alice", "theme", "dark", {})).preset["id"]
    await face.create("bob", "theme", "default", {})
    for owner in ("bob", "*", ""):
        refused = await face.page("alice", "theme", owner=owner)
        assert isinstance(refused, Answer)
        assert (refused.code, refused.text) == ("FORBIDDEN", "this needs the scope admin")
    assert await ids_of(face, "alice", "alice") == [own]
    refused = await face.page("admin", "theme", owner="x" * 256)
    assert isinstance(refused, Answer)
    assert (refused.code, refused.fields) == ("INVALID_VALUE", ["owner"])


async def test_owners_do_not_take_each_other_s_names(face: Face) -> None:
    assert (await face.create("alice", "theme", "dark", {})).code is None
    assert (await face.create("bob", "theme", "dark", {})).code is None
    assert (await face.create("alice", "note", "dark", {})).code is None
    again = await face.create("alice", "theme", "dark", {})
    assert (again.code, again.text) == ("ALREADY_EXISTS", "there is a preset dark already")
    light = (await face.create("alice", "theme", "light", {})).preset
    assert (await face.replace("alice", light["id"], 1, "dark", {})).code == "ALREADY_EXISTS"
    assert (await face.read("alice", light["id"])).preset == light


async def test_everybody_sees_the_default_and_who_has_the_scope_changes_it(face: Face) -> None:
    default = (await face.create("alice", "theme", "default", {})).preset
    for user in ("bob", "guest"):
        assert (await face.read(user, default["id"])).preset == default
        assert await face.page(user, "theme") == Page(["default"], [default["id"]], None)
    assert (await face.create("bob", "theme", "default", {})).code == "ALREADY_EXISTS"
    changed = (await face.replace("bob", default["id"], 1, "default", {"contrast": 3})).preset
    assert (changed["document"]["contrast"], changed["owner_id"]) == (3, "alice")
    assert (await face.delete("bob", default["id"], 2)).code is None


async def test_without_the_scope_nothing_is_done_about_a_default(face: Face) -> None:
    default = (await face.create("alice", "theme", "default", {})).preset
    own = (await face.create("guest", "theme", "own", {})).preset
    refused = [
        await face.create("guest", "theme", "default", {}),
        await face.replace("guest", default["id"], 1, "default", {}),
        await face.replace("guest", default["id"], 1, "renamed", {}),
        await face.replace("guest", own["id"], 1, "default", {}),
        await face.delete("guest", default["id"], 1),
    ]
    assert [answer.code for answer in refused] == ["FORBIDDEN"] * 5
    assert {answer.text for answer in refused} == {"this needs the scope presets:default"}
    assert (await face.read("guest", default["id"])).preset == default
    assert (await face.read("guest", own["id"])).preset == own


async def test_a_default_is_renamed_by_its_creator_whose_it_is_again(face: Face) -> None:
    default = (await face.create("alice", "theme", "default", {})).preset
    refused = await face.replace("bob", default["id"], 1, "former", {})
    assert (refused.code, refused.fields) == ("INVALID_VALUE", ["name"])
    assert (await face.replace("alice", default["id"], 1, "former", {})).preset["name"] == "former"
    assert (await face.read("bob", default["id"])).code == "NOT_FOUND"
    assert (await face.read("alice", default["id"])).preset["name"] == "former"


async def test_a_stale_version_changes_nothing(face: Face) -> None:
    preset_id = (await face.create("alice", "theme", "dark", {})).preset["id"]
    current = (await face.replace("alice", preset_id, 1, "dark", {"contrast": 2})).preset
    for refused in (
        await face.replace("alice", preset_id, 1, "dark", {"contrast": 3}),
        await face.delete("alice", preset_id, 1),
    ):
        assert refused.code == "VERSION_CONFLICT"
        assert refused.text == "expected version 1, found 2: read it again"
    assert (await face.replace("alice", preset_id, 2**31 - 1, "dark", {})).code == "VERSION_CONFLICT"
    assert (await face.read("alice", preset_id)).preset == current


async def test_versions_that_cannot_be_are_named(face: Face) -> None:
    preset_id = (await face.create("alice", "theme", "dark", {})).preset["id"]
    for refused in (await face.replace("alice", preset_id, 0, "dark", {}), await face.delete("alice", preset_id, 0)):
        assert (refused.code, refused.fields) == ("INVALID_VALUE", ["version"])
    too_large = await face.delete("alice", preset_id, 2**31)
    assert too_large.code in {"INVALID_VALUE", "GRAPHQL_VALIDATION_FAILED"}
    assert "version" in too_large.text


async def test_everything_about_a_preset_that_is_gone_says_so(face: Face) -> None:
    preset_id = (await face.create("alice", "theme", "dark", {})).preset["id"]
    await face.delete("alice", preset_id, 1)
    assert (await face.replace("alice", preset_id, 1, "dark", {})).code == "NOT_FOUND"
    assert (await face.delete("alice", preset_id, 1)).code == "NOT_FOUND"
    assert (await face.read("alice", str(uuid4()))).code == "NOT_FOUND"


async def test_an_id_that_is_none_is_named(face: Face) -> None:
    for preset_id in ("7", "'; DROP", "%00"):
        refused = await face.read("alice", preset_id)
        assert (refused.code, refused.fields) == ("INVALID_VALUE", ["id"])


WRONG: list[tuple[object, str, str]] = [
    ({"contrast": -1}, "document.contrast", "should be greater than or equal to 0"),
    ({"contrast": "1"}, "document.contrast", "should be a valid number"),
    ({"sizes": [1]}, "document.sizes[1]", "is required"),
    ({"sizes": [1, "2"]}, "document.sizes[1]", "should be a valid integer"),
    ({"text_colour": ""}, "document.text_colour", "is not known here"),
    ({"background": "#000000"}, "document.background", "should differ from the text"),
    ({"contrast": float("inf")}, "document.contrast", "should be a finite number"),
    ({"background": "a\x00"}, "document.background", "should hold no NUL and no halves of a character"),
    ({"background": "\ud800"}, "document.background", "should hold no NUL and no halves of a character"),
    ({"\x00": 1}, "document", "should have keys without NUL and halves of a character"),
    ([], "document", "should be an object"),
    ("x", "document", "should be an object"),
]


async def test_what_is_wrong_with_a_document_is_named(face: Face) -> None:
    kept = (await face.create("alice", "theme", "kept", {})).preset
    for document, field, rule in WRONG:
        for refused in (
            await face.create("alice", "theme", "dark", document),
            await face.replace("alice", kept["id"], 1, "kept", document),
        ):
            assert (refused.code, refused.problems) == ("INVALID_VALUE", [{"field": field, "rule": rule}])
    assert (await face.read("alice", kept["id"])).preset == kept
    assert await face.page("alice", "theme") == Page(["kept"], [kept["id"]], None)


async def test_documents_that_nobody_reads_are_refused(face: Face) -> None:
    nested: object = 1
    for _ in range(230):
        nested = [nested]
    for content, rule in (
        (nested, "is nested too deeply"),
        (10**400, "should be a number that JSON can carry"),
    ):
        refused = await face.create("alice", "note", "odd", {"is": content})
        assert (refused.code, refused.problems[0]["rule"]) == ("INVALID_VALUE", rule)
        assert refused.fields[0].startswith("document")
    assert await face.page("alice", "note") == Page([], [], None)


async def test_a_name_that_nobody_can_read_is_refused(face: Face) -> None:
    kept = (await face.create("alice", "theme", "kept", {})).preset
    invisible = ("a\u200bb", "\u202etxt", "\u2028", "\ufeff", "\x85b", "\ue000")
    for name in ("", " x", "a\nb", "a\x00b", "\ud800", "x" * 101, *invisible):
        for refused in (
            await face.create("alice", "theme", name, {}),
            await face.replace("alice", kept["id"], 1, name, {}),
        ):
            assert (refused.code, refused.fields) == ("INVALID_VALUE", ["name"])


async def test_all_that_is_wrong_is_told_at_once(face: Face) -> None:
    refused = await face.create("alice", "theme", "dark", {"contrast": -1, "sizes": [1, 2, 3], "x": 1})
    assert refused.fields == ["document.sizes", "document.contrast", "document.x"]


async def test_an_unknown_kind_is_told_the_known_ones(face: Face) -> None:
    for refused in (await face.create("alice", "song", "x", {}), await face.page("alice", "song")):
        assert isinstance(refused, Answer)
        assert refused.problems == [{"field": "kind", "rule": "should be one of note, theme"}]


async def test_pages_follow_each_other(face: Face) -> None:
    for number in range(5):
        await face.create("alice", "theme", f"{number}", {})
        await face.create("bob", "theme", f"{number}", {})
        await face.create("alice", "note", f"{number}", {})
    names, cursor = [], None
    for _ in range(3):
        page = await face.page("alice", "theme", 2, cursor)
        assert isinstance(page, Page)
        names.append(page.names)
        cursor = page.cursor
    assert (names, cursor) == ([["0", "1"], ["2", "3"], ["4"]], None)


async def test_a_page_that_cannot_be_is_refused(face: Face) -> None:
    for first in (0, 101, -1):
        refused = await face.page("alice", "theme", first)
        assert isinstance(refused, Answer)
        assert (refused.code, refused.fields) == ("INVALID_VALUE", [face.first])
    for cursor in ("", "x", "AZq5c2ZgcQCAAAAAAAAAAA==", "é\x00"):
        refused = await face.page("alice", "theme", 2, cursor)
        assert isinstance(refused, Answer)
        assert refused.problems == [{"field": face.after, "rule": "should be the cursor of an earlier page"}]


async def test_without_a_database_presets_are_unavailable_at_once(unused_tcp_port: int) -> None:
    async with served(f"postgresql://nobody@127.0.0.1:{unused_tcp_port}/none") as client:
        for make in (Rest, GraphQL):
            face: Face = make(client)
            began = time.monotonic()
            for refused in (await face.create("alice", "theme", "dark", {}), await face.page("alice", "theme")):
                assert isinstance(refused, Answer)
                assert (refused.code, refused.retry_after) == ("DATABASE_UNAVAILABLE", 1)
            assert time.monotonic() - began < 1
