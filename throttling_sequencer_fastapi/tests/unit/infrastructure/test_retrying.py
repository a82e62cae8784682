"""Calls are tried again for as long as they may take, and end with what is known of them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

import asyncpg
import pytest
from throttling_sequencer.domain.errors import OutcomeUnknownError, StorageUnavailableError
from throttling_sequencer.infrastructure.db.retrying import ROOM, Room, commit_limit_s, retried, start_retrying
from throttling_sequencer.infrastructure.db.trouble import CommitInDoubtError

LOST = asyncpg.ConnectionDoesNotExistError("gone")


def failing(*errors: Exception, answer: str = "kept") -> Callable[[float], Awaitable[str]]:
    """Return an attempt that fails with one error after the other, and then succeeds."""
    left = list(errors)

    async def attempt(_: float) -> str:
        await asyncio.sleep(0)
        if left:
            raise left.pop(0)
        return answer

    return attempt


def always(error: Exception) -> Callable[[float], Awaitable[str]]:
    async def attempt(_: float) -> str:
        await asyncio.sleep(0)
        raise error

    return attempt


@pytest.fixture(autouse=True)
def _started() -> Iterator[None]:
    start_retrying(2000)
    yield
    start_retrying(2000)


async def test_it_is_tried_until_it_succeeds() -> None:
    attempt = failing(LOST, TimeoutError(), ConnectionResetError(), CommitInDoubtError("cut off"))
    assert await retried(attempt, within_s=5.0, jitter=lambda *_: 0.0) == "kept"


@pytest.mark.parametrize(
    ("error", "is_tried_again"),
    [
        (asyncpg.TooManyConnectionsError("53300"), True),
        (asyncpg.SerializationError("40001"), True),
        (asyncpg.DeadlockDetectedError("40P01"), True),
        (asyncpg.QueryCanceledError("57014"), True),
        (asyncpg.AdminShutdownError("57P01"), True),
        (asyncpg.CrashShutdownError("57P02"), True),
        (asyncpg.CannotConnectNowError("57P03"), True),
        (asyncpg.IdleSessionTimeoutError("57P05"), True),
        (asyncpg.LockNotAvailableError("55P03"), True),
        (asyncpg.IdleInTransactionSessionTimeoutError("25P03"), True),
        (asyncpg.ReadOnlySQLTransactionError("25006"), True),
        (asyncpg.ProtocolViolationError("08P01, of PgBouncer: query_wait_timeout"), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        (asyncpg.InternalClientError("got result for unknown protocol state"), True),
        (OSError("unreachable"), True),
        (TimeoutError(), True),
        (CommitInDoubtError("cut off"), True),
        (asyncpg.DiskFullError("53100"), False),
        (asyncpg.DatabaseDroppedError("57P04"), False),
        (asyncpg.UndefinedTableError("42P01"), False),
        (asyncpg.InvalidPasswordError("28P01"), False),
        (asyncpg.UniqueViolationError("23505"), False),
        (asyncpg.CharacterNotInRepertoireError("22021"), False),
        (asyncpg.DataError("invalid input for query argument"), False),
        (StorageUnavailableError("no database is configured"), False),
        (ValueError("a mistake"), False),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_passes_is_tried_again_and_nothing_else(error: Exception, is_tried_again: bool) -> None:
    if is_tried_again:
        assert await retried(failing(error), within_s=5.0) == "kept"
        return
    with pytest.raises((type(error), StorageUnavailableError)):
        await retried(failing(error), within_s=5.0)


@pytest.mark.parametrize(
    "error", [asyncpg.UniqueViolationError("23505"), asyncpg.DataError("no number"), ValueError("a mistake")]
)
async def test_what_is_about_the_values_is_said_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await retried(always(error), within_s=5.0)
    assert caught.value is error


async def test_what_no_try_mends_makes_the_storage_unavailable_at_once() -> None:
    begun = time.monotonic()
    with pytest.raises(StorageUnavailableError) as caught:
        await retried(always(asyncpg.DiskFullError("no space left")), within_s=5.0)
    assert caught.value.reason == "DiskFullError: no space left"
    assert time.monotonic() - begun < 1.0


@pytest.mark.parametrize(
    ("errors", "outcome"),
    [
        ([LOST], StorageUnavailableError),
        ([CommitInDoubtError("cut off"), LOST], OutcomeUnknownError),
        ([LOST, CommitInDoubtError("cut off")], OutcomeUnknownError),
        ([CommitInDoubtError("cut off"), asyncpg.DiskFullError("full")], OutcomeUnknownError),
        ([CommitInDoubtError("cut off"), StorageUnavailableError("stopped")], OutcomeUnknownError),
    ],
)
async def test_who_gives_up_says_whether_anything_may_be_kept(
    errors: Sequence[Exception], outcome: type[Exception]
) -> None:
    left = list(errors)

    async def attempt(_: float) -> str:
        await asyncio.sleep(0)
        raise left.pop(0) if len(left) > 1 else left[0]

    with pytest.raises(outcome) as caught:
        await retried(attempt, within_s=0.2)
    assert caught.value.__cause__ is errors[-1]


async def test_it_gives_up_when_its_time_is_over_and_not_before() -> None:
    begun = time.monotonic()
    with pytest.raises(StorageUnavailableError, match="cannot be used just now") as caught:
        await retried(always(LOST), within_s=0.6)
    # A pause that would end after the call does is not begun, and the longest is a quarter of a second.
    assert 0.2 < time.monotonic() - begun < 1.1
    assert caught.value.reason == "ConnectionDoesNotExistError: gone"


async def test_an_attempt_that_does_not_end_is_cut_off_and_in_doubt() -> None:
    async def attempt(_: float) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    begun = time.monotonic()
    with pytest.raises(OutcomeUnknownError):
        await retried(attempt, within_s=0.2)
    assert 0.2 < time.monotonic() - begun < 0.7


async def test_each_attempt_is_told_what_is_left() -> None:
    """By a clock that only goes forward: the wall clock plays no part."""
    now = [50.0]
    told = []

    async def attempt(left_s: float) -> str:
        await asyncio.sleep(0)
        told.append(left_s)
        now[0] += 4.0
        raise LOST

    with pytest.raises(StorageUnavailableError):
        await retried(attempt, within_s=10.0, clock=lambda: now[0], jitter=lambda *_: 0.0)
    # Some of the time is for giving the connection back.
    assert told == pytest.approx([9.7, 5.7, 1.7])


async def test_a_commit_is_waited_for_longer_after_each_that_is_in_doubt() -> None:
    """A standby that takes longer than the first limit is to be waited for by a later try."""
    left: list[Exception | None] = [LOST, CommitInDoubtError("slow"), LOST, CommitInDoubtError("slow"), None]
    limits = []

    async def attempt(_: float) -> str:
        await asyncio.sleep(0)
        limits.append(commit_limit_s.get())
        if (error := left.pop(0)) is not None:
            raise error
        return "kept"

    assert await retried(attempt, within_s=5.0, jitter=lambda *_: 0.0) == "kept"
    assert limits == [1.0, 1.0, 2.0, 2.0, 4.0]
    assert commit_limit_s.get() == 1.0


async def test_no_time_is_no_attempt() -> None:
    with pytest.raises(StorageUnavailableError) as caught:
        await retried(failing(), within_s=0.0)
    assert caught.value.reason == "no time is left"


async def test_pauses_grow_and_are_drawn_from_the_whole_span() -> None:
    spans: list[tuple[float, float]] = []

    def jitter(least: float, most: float) -> float:
        spans.append((least, most))
        return 0.0

    await retried(failing(*[LOST] * 6), within_s=5.0, jitter=jitter)
    assert spans == [(0.0, span) for span in (0.02, 0.04, 0.08, 0.16, 0.25, 0.25)]


async def test_no_more_calls_wait_than_there_is_room_for() -> None:
    room = Room(3)
    come = asyncio.Event()

    async def attempt(_: float) -> str:
        if not come.is_set():
            raise LOST
        return "kept"

    waiting = [asyncio.create_task(retried(attempt, within_s=5.0, room=room)) for _ in range(3)]
    while room.taken < 3:
        await asyncio.sleep(0)
    with pytest.raises(StorageUnavailableError, match="cannot be used") as caught:
        await retried(attempt, within_s=5.0, room=room)
    assert caught.value.reason == "3 calls wait for the database already"
    come.set()
    assert await asyncio.gather(*waiting) == ["kept"] * 3
    assert await retried(attempt, within_s=5.0, room=room) == "kept"
    assert room.taken == 0


async def test_how_many_may_wait_is_set_when_the_pool_starts() -> None:
    start_retrying(7)
    assert ROOM.most == 7


@pytest.mark.parametrize("when", ["attempt", "pause"])
async def test_who_is_cancelled_leaves_nothing(when: str) -> None:
    room = Room(1)
    begun = asyncio.Event()

    async def attempt(_: float) -> str:
        begun.set()
        if when == "attempt":
            await asyncio.Event().wait()
        raise LOST

    call = asyncio.create_task(retried(attempt, within_s=60.0, room=room, jitter=lambda *_: 30.0))
    await begun.wait()
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert room.taken == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_tries_write_no_log_lines(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    await retried(failing(*[LOST] * 3), within_s=5.0)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
