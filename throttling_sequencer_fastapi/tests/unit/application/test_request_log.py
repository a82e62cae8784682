"""The request log never delays and never fails what it is about, and loses nothing that it can keep."""

import asyncio
import time
from collections.abc import Callable, Sequence

import pytest
from request_log_doubles import Heard, Storage, request
from throttling_sequencer.application import request_log
from throttling_sequencer.application.request_log import ForgetOldGqlRequests, RecordGqlRequest
from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.domain.request_log import GqlRequest


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def recorder(storage: Storage, heard: Heard) -> RecordGqlRequest:
    return RecordGqlRequest(storage, heard, capacity=1000)


async def test_what_is_recorded_is_kept_in_batches_in_order_and_once(
    recorder: RecordGqlRequest, storage: Storage, heard: Heard
) -> None:
    async with recorder.writing():
        for number in range(950):
            recorder.record(request(number))
        await until(lambda: len(storage.kept) == 950)
    assert storage.kept == [request(number) for number in range(950)]
    assert max(storage.batches) <= 200
    assert heard.told == []


async def test_a_single_request_does_not_wait_long_for_company(recorder: RecordGqlRequest, storage: Storage) -> None:
    async with recorder.writing():
        recorder.record(request(1))
        await until(lambda: storage.kept == [request(1)], seconds=0.5)


async def test_requests_that_come_close_together_are_written_together(
    recorder: RecordGqlRequest, storage: Storage
) -> None:
    async with recorder.writing():
        for number in range(10):
            recorder.record(request(number))
            await asyncio.sleep(0)
        await until(lambda: len(storage.kept) == 10)
    assert storage.batches == [10]


async def test_what_waits_at_the_end_is_written(recorder: RecordGqlRequest, storage: Storage) -> None:
    async with recorder.writing():
        for number in range(450):
            recorder.record(request(number))
    assert len(storage.kept) == 450


async def test_a_storage_that_is_away_delays_nobody_and_is_told_of_once(
    recorder: RecordGqlRequest, storage: Storage, heard: Heard
) -> None:
    storage.is_away = True
    async with recorder.writing():
        begun = time.perf_counter()
        for number in range(300):
            recorder.record(request(number))
        assert time.perf_counter() - begun < 0.1
        await until(lambda: storage.tries >= 3)
        assert heard.told == ["interrupted: it is away"]
        storage.is_away = False
        await until(lambda: len(storage.kept) == 300)
    assert storage.kept == [request(number) for number in range(300)]
    assert heard.told == ["interrupted: it is away", "resumed, dropped 0"]


async def test_what_does_not_fit_is_dropped_counted_and_told_of_once(
    recorder: RecordGqlRequest, storage: Storage, heard: Heard
) -> None:
    storage.is_away = True
    async with recorder.writing():
        for number in range(1500):
            recorder.record(request(number))
        assert recorder.dropped == 500
        assert heard.told == ["dropping beyond 1000"]
        await until(lambda: storage.tries >= 2)
        storage.is_away = False
        await until(lambda: len(storage.kept) == 1000)
    assert storage.kept == [request(number) for number in range(1000)]
    assert heard.told == ["dropping beyond 1000", "interrupted: it is away", "resumed, dropped 500"]


async def test_after_it_caught_up_a_full_queue_is_news_again(
    recorder: RecordGqlRequest, storage: Storage, heard: Heard
) -> None:
    async with recorder.writing():
        for _ in range(2):
            for number in range(1001):
                recorder.record(request(number))
            await until(lambda: not recorder._waiting)
    assert heard.told == ["dropping beyond 1000"] * 2


async def test_a_request_that_the_storage_refuses_takes_no_other_with_it(
    recorder: RecordGqlRequest, storage: Storage, heard: Heard
) -> None:
    storage.refused = {request(3).operation_id}
    async with recorder.writing():
        for number in range(10):
            recorder.record(request(number))
    assert storage.kept == [request(number) for number in range(10) if number != 3]
    assert heard.told == ["failed: that cannot be kept"]
    assert recorder.dropped == 1


async def test_a_refused_request_is_counted_once_though_others_are_tried_again(
    recorder: RecordGqlRequest, storage: Storage, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.refused = {request(0).operation_id}
    add, tries = storage.add, 0

    async def sometimes_away(requests: Sequence[GqlRequest]) -> None:
        nonlocal tries
        tries += 1
        if tries in (4, 5):
            raise StorageUnavailableError("it is away")
        await add(requests)

    monkeypatch.setattr(storage, "add", sometimes_away)
    async with recorder.writing():
        for number in range(5):
            recorder.record(request(number))
        await until(lambda: len(storage.kept) == 4)
    assert (recorder.dropped, heard.told.count("failed: that cannot be kept")) == (1, 1)


async def test_an_end_without_a_storage_waits_for_it_a_little_and_says_what_it_left_behind(
    recorder: RecordGqlRequest, storage: Storage, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "_FLUSH_S", 0.3)
    storage.is_away = True
    begun = time.perf_counter()
    async with recorder.writing():
        recorder.record(request(1))
    assert time.perf_counter() - begun < 1
    assert heard.told == ["interrupted: it is away", "left behind: 1"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_old_requests_are_forgotten_at_the_start_and_again(
    storage: Storage, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "_PRUNE_PERIOD_S", 0.01)
    async with ForgetOldGqlRequests(storage, heard, retention_days=2).pruning():
        await until(lambda: len(storage.forgotten) >= 2)
    assert storage.forgotten[0] == pytest.approx(time.time() - 2 * 86_400, abs=10)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_while_the_storage_is_away_forgetting_waits_and_tells_nobody(
    storage: Storage, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "_PRUNE_RETRY_S", 0.01)

    async def away(unix_time: float) -> int:
        storage.forgotten.append(unix_time)
        raise StorageUnavailableError("it is away")

    monkeypatch.setattr(storage, "delete_older_than", away)
    async with ForgetOldGqlRequests(storage, heard, retention_days=2).pruning():
        await until(lambda: len(storage.forgotten) >= 3)
    assert heard.told == []


async def test_a_storage_that_refuses_to_forget_is_told_of_and_asked_again(
    storage: Storage, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "_PRUNE_PERIOD_S", 0.01)

    async def refuse(unix_time: float) -> int:
        storage.forgotten.append(unix_time)
        raise ValueError("no")

    monkeypatch.setattr(storage, "delete_older_than", refuse)
    async with ForgetOldGqlRequests(storage, heard, retention_days=2).pruning():
        await until(lambda: len(storage.forgotten) >= 2)
    assert heard.told[0] == "failed: no"
