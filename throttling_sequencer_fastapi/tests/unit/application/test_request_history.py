"""Users see their own requests, page by page, whatever comes in between."""

import pytest
from request_log_doubles import Storage, request
from throttling_sequencer.application.owners import NotAdminError
from throttling_sequencer.application.request_history import ReadGqlRequests
from throttling_sequencer.domain.errors import InvalidValueError


@pytest.fixture
async def storage() -> Storage:
    storage = Storage()
    await storage.add([request(number, "alice" if number % 2 else "bob") for number in range(50)])
    return storage


@pytest.mark.parametrize("size", [1, 7, 24, 25, 26, 100])
async def test_the_pages_hold_every_own_request_once_newest_first(storage: Storage, size: int) -> None:
    history, seen, cursor = ReadGqlRequests(storage), [], None
    while True:
        page = await history.page(size, cursor, asker="alice")
        seen += [one.operation_id.int for one in page.requests]
        assert len(page.requests) <= size
        if not page.has_next:
            break
        cursor = page.end_cursor
    assert seen == [number for number in reversed(range(50)) if number % 2]


async def test_what_is_logged_meanwhile_moves_no_page(storage: Storage) -> None:
    history = ReadGqlRequests(storage)
    first = await history.page(5, asker="alice")
    await storage.add([request(number) for number in range(100, 110)])
    second = await history.page(5, first.end_cursor, asker="alice")
    assert [one.operation_id.int for one in second.requests] == [39, 37, 35, 33, 31]


async def test_who_has_no_requests_has_an_empty_page(storage: Storage) -> None:
    page = await ReadGqlRequests(storage).page(5, asker="carol")
    assert (page.requests, page.end_cursor, page.has_next) == ([], None, False)


async def test_an_administrator_sees_anybodys_requests(storage: Storage) -> None:
    history = ReadGqlRequests(storage)
    pages = {
        owner: await history.page(3, asker="root", is_admin=True, owner=owner) for owner in (None, "bob", "carol", "*")
    }
    assert {owner: [one.operation_id.int for one in page.requests] for owner, page in pages.items()} == {
        None: [],
        "bob": [48, 46, 44],
        "carol": [],
        "*": [49, 48, 47],
    }
    rest = await history.page(100, pages["*"].end_cursor, asker="root", is_admin=True, owner="*")
    assert (len(rest.requests), rest.has_next) == (47, False)


async def test_a_cursor_of_others_shows_nothing_of_theirs(storage: Storage) -> None:
    history = ReadGqlRequests(storage)
    theirs = await history.page(5, asker="root", is_admin=True, owner="bob")
    page = await history.page(100, theirs.end_cursor, asker="alice")
    assert {one.user_id for one in page.requests} == {"alice"}


@pytest.mark.parametrize("owner", ["bob", "*", ""])
async def test_who_is_no_administrator_sees_nobody_elses_requests(storage: Storage, owner: str) -> None:
    with pytest.raises(NotAdminError):
        await ReadGqlRequests(storage).page(5, asker="alice", owner=owner)
    own = await ReadGqlRequests(storage).page(1, asker="alice", owner="alice")
    assert own.requests[0].user_id == "alice"


@pytest.mark.parametrize("first", [0, -1, 101, 2**31 - 1])
async def test_a_page_has_a_size_that_makes_sense(storage: Storage, first: int) -> None:
    with pytest.raises(InvalidValueError, match="first should be a number from 1 to 100"):
        await ReadGqlRequests(storage).page(first, asker="alice")


@pytest.mark.parametrize("after", ["", "x", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAA==", "ä", "\0", "A" * 9999])
async def test_a_cursor_that_is_none_is_an_error(storage: Storage, after: str) -> None:
    with pytest.raises(InvalidValueError, match="after should be the cursor of an earlier page"):
        await ReadGqlRequests(storage).page(5, after, asker="alice")
