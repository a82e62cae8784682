import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from api_server.testing.failover import Clients, Ledger, NoAnswerError, NotAcknowledgedError, Reply, Traffic, Writers


async def at_once(key: str) -> Reply:
    return Reply("acknowledged", 201, None, key)


async def never(key: str) -> Reply:
    await asyncio.Event().wait()
    raise AssertionError


async def written(ledger: Ledger, writers: Writers, number: int, *, drain_s: float = 5.0) -> None:
    """Have the writers write so many requests."""
    running = asyncio.create_task(writers.run())
    while len(ledger.requests) < number and not running.done():
        await asyncio.sleep(0.005)
    writers.stop(drain_s=drain_s)
    await running


async def test_writers_do_not_wait_for_answers() -> None:
    """Else an outage would lower the rate, and hide how many it hits."""
    ledger = Ledger()
    async with asyncio.timeout(5):
        await written(ledger, Writers(ledger, {"rest": never}, rate_per_s=500, seed=1), 50, drain_s=0)
    assert {request.outcome for request in ledger.requests} == {"unknown"}


async def test_writers_keep_their_rate() -> None:
    ledger = Ledger()
    begun = time.monotonic()
    await written(ledger, Writers(ledger, {"rest": at_once}, rate_per_s=100, seed=1), 31)
    assert time.monotonic() - begun >= 0.3


async def test_writers_that_fell_behind_catch_up() -> None:
    ledger = Ledger()
    writers = Writers(ledger, {"rest": at_once}, rate_per_s=100, seed=1)
    running = asyncio.create_task(writers.run())
    await asyncio.sleep(0.05)
    asked = len(ledger.requests)
    time.sleep(0.09)  # noqa: ASYNC251 - a machine that is busy
    await asyncio.sleep(0.01)
    assert len(ledger.requests) - asked >= 9
    writers.stop(drain_s=5)
    await running


async def test_faces_take_turns_and_a_seed_makes_the_same_requests_again() -> None:
    asked = []
    for seed in (1, 1, 2):
        ledger = Ledger()
        await written(ledger, Writers(ledger, {"rest": at_once, "graphql": at_once}, rate_per_s=1000, seed=seed), 40)
        asked.append([(request.key, request.face) for request in ledger.requests[:40]])
    assert asked[0] == asked[1] != asked[2]
    assert [face for _, face in asked[0]] == ["rest", "graphql"] * 20


async def test_every_third_request_asks_for_an_earlier_key_again_through_each_face() -> None:
    ledger = Ledger()
    await written(ledger, Writers(ledger, {"rest": at_once, "graphql": at_once}, rate_per_s=1000, seed=1), 121)
    attempts = Counter((request.face, request.attempt > 1) for request in ledger.requests[:121])
    again = {"rest": 20, "graphql": 20}
    assert {face: attempts[face, True] for face in again} == again


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoAnswerError("ReadError"), "ReadError"),
        (ConnectionResetError(), "ConnectionResetError"),
        (TimeoutError(), "TimeoutError"),
    ],
)
async def test_what_fails_on_the_way_is_unknown(error: Exception, code: str) -> None:
    async def failing(key: str) -> Reply:
        raise error

    ledger = Ledger()
    await written(ledger, Writers(ledger, {"rest": failing}, rate_per_s=1000, seed=1), 3)
    assert {(request.outcome, request.code) for request in ledger.requests} == {("unknown", code)}


async def test_a_mistake_of_a_client_ends_the_writing() -> None:
    async def mistaken(key: str) -> Reply:
        raise KeyError(key)

    ledger = Ledger()
    with pytest.raises(KeyError):
        await written(ledger, Writers(ledger, {"rest": mistaken}, rate_per_s=1000, seed=1), 50)


async def test_answers_that_are_missing_at_the_end_are_waited_for() -> None:
    async def slow(key: str) -> Reply:
        await asyncio.sleep(0.2)
        return Reply("acknowledged")

    ledger = Ledger()
    await written(ledger, Writers(ledger, {"rest": slow}, rate_per_s=1000, seed=1), 20)
    assert {request.outcome for request in ledger.requests} == {"acknowledged"}


def test_traffic_runs_beside_the_thread_that_started_it() -> None:
    events: list[str] = []

    async def answered() -> AsyncIterator[None]:
        while True:
            yield
            await asyncio.sleep(0.01)

    async def failing() -> AsyncIterator[None]:
        yield
        raise NoAnswerError("HTTP 500")

    @asynccontextmanager
    async def clients() -> AsyncIterator[Clients]:
        events.append("opened")
        yield Clients({"rest": at_once}, {"alive": answered, "failing": failing})
        events.append("closed")

    with Traffic(clients, rate_per_s=500, seed=1) as traffic:
        traffic.wait_for_acknowledgements(100, within_s=10)
        traffic.stop()
    assert events == ["opened", "closed"]
    assert traffic.ledger.acknowledgements >= 100
    assert len(traffic.bystanders["alive"].answered_at) > 2
    assert traffic.bystanders["alive"].failures == []
    assert set(traffic.bystanders["failing"].failures) == {"HTTP 500"}
    assert traffic.bystanders["failing"].longest_gap_ms > 50


def test_a_mistake_of_a_client_is_raised_where_the_traffic_is_stopped() -> None:
    async def mistaken() -> AsyncIterator[None]:
        yield
        raise KeyError("bystander")

    @asynccontextmanager
    async def clients() -> AsyncIterator[Clients]:
        yield Clients({"rest": at_once}, {"mistaken": mistaken})

    with Traffic(clients, rate_per_s=500, seed=1) as traffic:
        traffic.wait_for_acknowledgements(50, within_s=10)
        with pytest.raises(KeyError, match="bystander"):
            traffic.stop()


def test_acknowledgements_that_do_not_come_are_not_waited_for_for_ever() -> None:
    @asynccontextmanager
    async def clients() -> AsyncIterator[Clients]:
        yield Clients({"rest": never})

    traffic = Traffic(clients, rate_per_s=100, seed=1, drain_s=0)
    with traffic, pytest.raises(NotAcknowledgedError, match="0 of 1 writes were acknowledged"):
        traffic.wait_for_acknowledgements(1, within_s=0.1)


def test_clients_that_cannot_be_opened_are_no_traffic() -> None:
    @asynccontextmanager
    async def clients() -> AsyncIterator[Clients]:
        raise OSError("no way")
        yield

    with pytest.raises(OSError, match="no way"), Traffic(clients, rate_per_s=100, seed=1):
        pass
