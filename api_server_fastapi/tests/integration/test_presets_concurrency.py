"""Several users of one preset, and of one list, at the same time: nothing is lost and nothing is seen twice."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from api_server.app import create_app
from api_server.local.postgres import PostgresAddress
from api_server.testing import Serve
from preset_faces import (
    Face,
    GraphQL,
    MakeFace,
    Page,
    Rest,
    application,
    forget_presets,
    preset_database,
)


@pytest.fixture(scope="module")
def kept(postgres: PostgresAddress) -> Iterator[PostgresAddress]:
    with preset_database(postgres) as address:
        yield address


@pytest.fixture
def emptied(kept: PostgresAddress) -> PostgresAddress:
    forget_presets(kept)
    return kept


@pytest.fixture
async def client(serve: Serve, emptied: PostgresAddress) -> AsyncIterator[httpx2.AsyncClient]:
    async with serve(await asyncio.to_thread(create_app, application(emptied.url))) as client:
        yield client


@pytest.mark.parametrize("rounds", [20, pytest.param(1_000, marks=pytest.mark.slow)])
async def test_of_two_writers_of_one_version_one_is_told_to_read_again(client: httpx2.AsyncClient, rounds: int) -> None:
    faces: list[Face] = [Rest(client), GraphQL(client)]
    current = (await faces[0].create("alice", "note", "shared", {})).preset
    winners = set()
    for number in range(rounds):
        # Now the one, now the other sends first.
        writers = faces if number % 2 else faces[::-1]
        answers = await asyncio.gather(
            *(
                face.replace("alice", current["id"], current["version"], "shared", {"is": [number, place]})
                for place, face in enumerate(writers)
            )
        )
        assert sorted(answer.code or "" for answer in answers) == ["", "VERSION_CONFLICT"]
        [won] = [answer.preset for answer in answers if answer.code is None]
        [place] = [place for place, answer in enumerate(answers) if answer.code is None]
        winners.add(place)
        current = (await writers[number % 2].read("alice", current["id"])).preset
        assert current["document"]["is"] == won["document"]["is"] == [number, place]
    assert current["version"] == 1 + rounds
    assert rounds < 1_000 or winners == {0, 1}


async def test_of_many_writers_as_many_succeed_as_versions_are_counted(client: httpx2.AsyncClient) -> None:
    """Each reads, changes and tries; what succeeded is all there in the end."""
    makers: list[MakeFace] = [Rest, GraphQL, Rest, GraphQL]
    preset_id = (await Rest(client).create("alice", "note", "shared", {"is": []})).preset["id"]

    async def writer(face: Face, name: int) -> list[list[int]]:
        written = []
        for number in range(10):
            read = (await face.read("alice", preset_id)).preset
            entry = [name, number]
            document = {"is": [*read["document"]["is"], entry]}
            answer = await face.replace("alice", preset_id, read["version"], "shared", document)
            assert answer.code in {None, "VERSION_CONFLICT"}
            if answer.code is None:
                written.append(entry)
        return written

    written = await asyncio.gather(*(writer(make(client), name) for name, make in enumerate(makers)))
    final = (await Rest(client).read("alice", preset_id)).preset
    expected = [entry for entries in written for entry in entries]
    assert sorted(final["document"]["is"]) == sorted(expected)
    assert final["version"] == 1 + len(expected)


async def test_of_two_who_take_a_name_one_gets_it(client: httpx2.AsyncClient) -> None:
    faces: list[Face] = [Rest(client), GraphQL(client)]
    for name in ("default", "mine"):
        owners = ("alice", "bob") if name == "default" else ("alice", "alice")
        answers = await asyncio.gather(
            *(face.create(user, "theme", name, {}) for user, face in zip(owners, faces, strict=True))
        )
        assert sorted(answer.code or "" for answer in answers) == ["", "ALREADY_EXISTS"]


async def test_of_a_change_and_a_deletion_one_happens(client: httpx2.AsyncClient) -> None:
    faces: list[Face] = [Rest(client), GraphQL(client)]
    for number in range(10):
        preset_id = (await faces[0].create("alice", "note", f"{number}", {})).preset["id"]
        changed, deleted = await asyncio.gather(
            faces[number % 2].replace("alice", preset_id, 1, f"{number}", {}),
            faces[1 - number % 2].delete("alice", preset_id, 1),
        )
        there = (await faces[0].read("alice", preset_id)).code is None
        if there:
            assert (changed.code, deleted.code) == (None, "VERSION_CONFLICT")
        else:
            assert (changed.code, deleted.code) == ("NOT_FOUND", None)


@pytest.mark.parametrize("make", [Rest, pytest.param(GraphQL, marks=pytest.mark.slow)])
async def test_pages_are_complete_while_others_write(client: httpx2.AsyncClient, make: MakeFace) -> None:
    face = make(client)
    stays: list[str] = []
    goes: list[str] = []
    for number in range(40):
        preset_id = (await face.create("alice", "note", f"{number}", {})).preset["id"]
        (stays if number % 2 else goes).append(preset_id)

    async def others_write(number: int) -> None:
        own = (await face.create("alice", "note", f"own {number}", {})).preset
        assert (await face.create("bob", "note", f"theirs {number}", {})).code is None
        assert (await face.delete("alice", goes.pop(number % len(goes)), 1)).code is None
        assert (await face.replace("alice", own["id"], 1, f"renamed {number}", {})).code is None
        await face.delete("alice", own["id"], 2)

    seen: list[str] = []
    pages, cursor = 0, None
    while pages == 0 or cursor is not None:
        page, _ = await asyncio.gather(face.page("alice", "note", 4, cursor), others_write(pages))
        assert isinstance(page, Page)
        seen += page.ids
        pages, cursor = pages + 1, page.cursor
    assert pages > 5
    assert [preset_id for preset_id in seen if preset_id in stays] == stays
    assert len(seen) == len(set(seen))
    bobs = await face.page("bob", "note", 100)
    assert isinstance(bobs, Page)
    assert len(bobs.ids) == pages
    assert not set(seen) & set(bobs.ids)
