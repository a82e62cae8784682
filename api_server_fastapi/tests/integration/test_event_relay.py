"""Events across processes: each bus hears of each event once, and nobody goes on holding what is out of date."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg
import pytest
from api_server.database.connection import borrow_db_session, create_engine, dispose_db, init_db
from api_server.event_bus import BaseEvent, EventBus
from api_server.events import EventsMayBeMissed
from api_server.exceptions import DatabaseUnavailableError
from api_server.local.postgres import PostgresAddress
from api_server.metrics import Metrics
from api_server.services.event_relay import _ANNOUNCEMENT, EventRelay, _announcement
from api_server.services.measured import measure_events
from api_server.testing import RunningCluster
from frozen_server import frozen
from numbers_told import numbers
from older_postgres import older_postgres
from proxies import tcp_proxy
from recording_bus import RecordingBus, until
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel.ext.asyncio.session import AsyncSession
from structlog.testing import capture_logs

SET_STOCK = text("UPDATE stock SET pieces = :pieces")


class StockChanged(BaseEvent):
    number: int


@pytest.fixture
def url(database: PostgresAddress) -> str:
    prepare(database.url)
    return database.url


def prepare(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE stock AS SELECT 0 AS pieces")


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(url)
    yield engine
    await engine.dispose()


@dataclass
class Worker:
    """A process of a service, that holds the table's one number as it read it last."""

    url: str
    bus: RecordingBus = field(default_factory=RecordingBus)
    pieces: int | None = None

    def __post_init__(self) -> None:
        self.relay = EventRelay(self.bus, self.url)

    @property
    def numbers(self) -> list[int]:
        return [event.number for event in self.bus.events if isinstance(event, StockChanged)]

    @property
    def times_missed(self) -> int:
        return sum(isinstance(event, EventsMayBeMissed) for event in self.bus.events)

    def holds(self, pieces: int) -> bool:
        return self.pieces == pieces

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self.bus, self.relay.relaying():
            yield

    async def read(self, event: BaseEvent) -> None:
        self.pieces = await asyncio.to_thread(pieces, self.url)


def pieces(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pieces FROM stock").fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture
async def workers(url: str) -> AsyncIterator[list[Worker]]:
    async with AsyncExitStack() as stack:
        workers = [Worker(url), Worker(url)]
        for worker in workers:
            await stack.enter_async_context(worker.running())
        yield workers


async def test_an_event_reaches_every_process_once(workers: list[Worker], engine: AsyncEngine) -> None:
    here, there = workers
    async with AsyncSession(engine) as session:
        await here.relay.publish(session, StockChanged(number=1))
        await here.relay.commit(session)
        assert here.numbers == [1]
        await until(lambda: there.numbers, 1.0)
        # What is announced later comes later: the first one came back to its publisher before.
        await there.relay.publish(session, StockChanged(number=2))
        await there.relay.commit(session)
    await until(lambda: 2 in here.numbers)
    assert [here.numbers, there.numbers] == [[1, 2], [1, 2]]
    assert [worker.times_missed for worker in workers] == [1, 1]


async def test_what_is_rolled_back_reaches_nobody(workers: list[Worker], engine: AsyncEngine) -> None:
    here, there = workers
    async with AsyncSession(engine) as session:
        await here.relay.publish(session, StockChanged(number=1))
        await session.rollback()
        await here.relay.publish(session, StockChanged(number=2))
        await session.close()
        await here.relay.publish(session, StockChanged(number=3))
        await here.relay.commit(session)
        await here.relay.commit(session)
    await until(lambda: there.numbers)
    assert [here.numbers, there.numbers] == [[3], [3]]


async def test_what_was_published_in_a_savepoint_reaches_everybody_if_that_was_kept(
    workers: list[Worker], engine: AsyncEngine
) -> None:
    here, there = workers
    async with AsyncSession(engine) as session:
        await here.relay.publish(session, StockChanged(number=1))
        given_up = await session.begin_nested()
        await here.relay.publish(session, StockChanged(number=2))
        await given_up.rollback()
        async with session.begin_nested():
            await here.relay.publish(session, StockChanged(number=3))
        await here.relay.commit(session)
    await until(lambda: 3 in here.numbers and 3 in there.numbers)
    assert [here.numbers, there.numbers] == [[1, 3], [1, 3]]


async def test_a_session_that_is_committed_by_itself_announces_all_the_same(
    workers: list[Worker], engine: AsyncEngine
) -> None:
    here, there = workers
    async with AsyncSession(engine) as session:
        await here.relay.publish(session, StockChanged(number=1))
        await session.commit()
        await until(lambda: here.numbers and there.numbers)
        await here.relay.publish(session, StockChanged(number=2))
        await here.relay.commit(session)
    assert here.numbers == [1, 2]


class AnswerLost(AsyncSession):
    """A session whose commit is done, and whose caller never learns of it."""

    async def commit(self) -> None:
        await super().commit()
        raise ConnectionError


async def test_a_commit_of_unknown_outcome_is_heard_of_from_the_database(
    workers: list[Worker], engine: AsyncEngine
) -> None:
    here, there = workers
    async with AnswerLost(engine) as session:
        await here.relay.publish(session, StockChanged(number=1))
        with pytest.raises(ConnectionError):
            await here.relay.commit(session)
    await until(lambda: here.numbers and there.numbers)
    assert [here.numbers, there.numbers] == [[1], [1]]


class CommitFails(AsyncSession):
    """A session that cannot commit."""

    async def commit(self) -> None:
        await self.rollback()
        raise ConnectionError


async def test_what_could_not_be_committed_reaches_nobody(workers: list[Worker], engine: AsyncEngine) -> None:
    here, there = workers
    async with CommitFails(engine) as session:
        await here.relay.publish(session, StockChanged(number=1))
        with pytest.raises(ConnectionError):
            await here.relay.commit(session)
    async with AsyncSession(engine) as session:
        await here.relay.publish(session, StockChanged(number=2))
        await here.relay.commit(session)
    await until(lambda: there.numbers)
    assert [here.numbers, there.numbers] == [[2], [2]]


class HeardFirst(AsyncSession):
    """A session whose caller learns of the commit later than the listener."""

    worker: Worker

    async def commit(self) -> None:
        await super().commit()
        await until(lambda: self.worker.numbers)


async def test_who_commits_returns_when_the_event_was_handled_whoever_emitted_it(
    workers: list[Worker], engine: AsyncEngine
) -> None:
    here, _ = workers
    handled = []

    async def handle(event: BaseEvent) -> None:
        await asyncio.sleep(0.3)
        handled.append(event)

    here.bus.handler = handle
    async with HeardFirst(engine) as session:
        session.worker = here
        await here.relay.publish(session, StockChanged(number=1))
        await here.relay.commit(session)
    assert handled == [StockChanged(number=1)]
    assert here.numbers == [1]


async def test_two_hundred_events_of_a_transaction_arrive_in_order(workers: list[Worker], engine: AsyncEngine) -> None:
    here, there = workers
    numbers = list(range(200))
    async with AsyncSession(engine) as session:
        for number in numbers:
            await here.relay.publish(session, StockChanged(number=number))
        await here.relay.commit(session)
    await until(lambda: len(there.numbers) == len(numbers))
    assert [here.numbers, there.numbers] == [numbers, numbers]


async def test_a_handler_that_hangs_does_not_hold_who_commits(workers: list[Worker], engine: AsyncEngine) -> None:
    here, there = workers
    release = asyncio.Event()
    handled = []

    async def hang(event: BaseEvent) -> None:
        await release.wait()
        handled.append(event)

    here.bus.handler = hang
    begun = time.monotonic()
    async with AsyncSession(engine) as session:
        for number in range(3):
            await here.relay.publish(session, StockChanged(number=number))
        await here.relay.commit(session)
    assert 0.9 <= time.monotonic() - begun <= 1.5
    assert here.numbers == [0, 1, 2]
    await until(lambda: there.numbers == [0, 1, 2])
    release.set()
    await until(lambda: len(handled) == 3)


async def test_a_handler_that_hangs_holds_up_no_following_event(workers: list[Worker], engine: AsyncEngine) -> None:
    """Five events, and handlers that take far longer than anybody waits for them."""
    here, there = workers
    may_end = asyncio.Event()

    async def hang(event: BaseEvent) -> None:
        await may_end.wait()

    there.bus.handler = hang
    begun = time.monotonic()
    async with AsyncSession(engine) as session:
        for number in range(5):
            await here.relay.publish(session, StockChanged(number=number))
        await here.relay.commit(session)
    await until(lambda: there.numbers == [0, 1, 2, 3, 4], 0.9)
    assert time.monotonic() - begun < 1
    may_end.set()


async def test_what_is_committed_is_not_called_unavailable_because_of_its_handlers(
    url: str, workers: list[Worker]
) -> None:
    here = workers[0]

    async def slow(event: BaseEvent) -> None:
        await asyncio.sleep(0.5)

    here.bus.handler = slow
    init_db(url)
    try:
        async with borrow_db_session(timeout=0.4) as session:
            await here.relay.publish(session, StockChanged(number=1))
            await here.relay.commit(session)
    finally:
        await dispose_db()
    assert here.numbers == [1]


async def test_before_what_is_held_is_read_anew_connections_are_renewed(url: str) -> None:
    """Those of before may lead to a server that answers nobody any more."""
    order: list[str] = []

    async def begins() -> None:
        order.append("renewed")

    async def read(event: BaseEvent) -> None:
        order.append("read")

    bus = RecordingBus()
    bus.handler = read
    async with bus, EventRelay(bus, url, begins=begins).relaying():
        await until(lambda: len(order) == 2)
    assert order == ["renewed", "read"]


async def test_who_ceases_to_commit_during_handling_leaves_nothing_unsaid(
    workers: list[Worker], engine: AsyncEngine
) -> None:
    here, _ = workers
    release = asyncio.Event()
    here.bus.handler = lambda event: waited(release)

    async def commit() -> None:
        async with AsyncSession(engine) as session:
            for number in range(3):
                await here.relay.publish(session, StockChanged(number=number))
            await here.relay.commit(session)

    committing = asyncio.create_task(commit())
    await until(lambda: here.numbers)
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    release.set()
    await until(lambda: len(here.numbers) == 3)
    assert here.numbers == [0, 1, 2]


async def waited(event: asyncio.Event) -> None:
    await event.wait()


async def test_a_handler_that_fails_ends_nothing(workers: list[Worker], engine: AsyncEngine) -> None:
    here, there = workers
    here.bus.handler = there.bus.handler = failing
    async with AsyncSession(engine) as session:
        for number in range(2):
            await here.relay.publish(session, StockChanged(number=number))
        await here.relay.commit(session)
    await until(lambda: there.numbers == [0, 1])
    assert here.numbers == [0, 1]


async def failing(event: BaseEvent) -> None:
    raise ZeroDivisionError


async def test_what_is_committed_while_the_bus_is_closed_is_committed(url: str, engine: AsyncEngine) -> None:
    worker = Worker(url)
    await worker.bus.aclose()
    with capture_logs() as lines:
        async with AsyncSession(engine) as session:
            await (await session.connection()).execute(SET_STOCK, {"pieces": 1})
            await worker.relay.publish(session, StockChanged(number=1))
            await worker.relay.commit(session)
    assert [line["event"] for line in lines] == ["an event was not emitted"]
    assert await asyncio.to_thread(pieces, url) == 1


async def test_what_anybody_else_announces_is_left_out(url: str, workers: list[Worker], engine: AsyncEngine) -> None:
    here, _ = workers
    await asyncio.to_thread(announce_nonsense, url)
    async with AsyncSession(engine) as session:
        await here.relay.publish(session, StockChanged(number=1))
        await session.commit()
    await until(lambda: here.numbers)
    assert here.bus.events == [EventsMayBeMissed(), StockChanged(number=1)]


def announce_nonsense(url: str) -> None:
    with psycopg.connect(url) as connection:
        for payload in ("", "nonsense", "[]", '{"id": 1}', '{"event": "os:system", "fields": {}}'):
            connection.execute("SELECT pg_notify('api_server_events', %s)", (payload,))


async def test_while_nothing_is_heard_changes_are_made_and_nobody_keeps_what_was(
    postgres: PostgresAddress, database: PostgresAddress, url: str
) -> None:
    worker = Worker(url)
    worker.bus.handler = worker.read
    async with worker.running():
        assert worker.pieces == 0
        await asyncio.to_thread(change_unheard, postgres, database)
        await until(lambda: worker.relay.is_listening, 2.0)
        assert worker.pieces == 7
    assert worker.times_missed == 2
    assert worker.numbers == []


def change_unheard(server: PostgresAddress, database: PostgresAddress) -> None:
    """End the listener's connection, and let nobody in again before a change is made and announced."""
    with (
        psycopg.connect(server.url, autocommit=True) as administrator,
        psycopg.connect(database.url, autocommit=True) as writer,
    ):
        administrator.execute(f"ALTER DATABASE {database.database} ALLOW_CONNECTIONS false")
        writer.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name = 'api_server listener' AND datname = current_database()"
        )
        time.sleep(0.3)
        writer.execute("UPDATE stock SET pieces = 7")
        writer.execute("SELECT pg_notify('api_server_events', 'of a change')")
        administrator.execute(f"ALTER DATABASE {database.database} ALLOW_CONNECTIONS true")


async def test_behind_a_pooler_what_is_held_is_read_anew(database: PostgresAddress) -> None:
    async with tcp_proxy(database, invents_process_numbers=True) as pooler:
        worker = Worker(pooler)
        async with worker.running():
            assert worker.times_missed == 1
            assert "API_SERVER_DATABASE_URL" in str(worker.relay.reason)
            assert not worker.relay.is_listening
            # What an alert compares: there was never anything to be interrupted.
            metrics = Metrics()
            measure_events(metrics, EventBus(), worker.relay)
            told = numbers((await metrics.text()).decode())
            assert (told["event_relay_running"], told["event_relay_listening"]) == (1, 0)
            assert told["event_relay_interruptions_total"] == 0


async def test_without_a_database_there_is_nobody_to_hear_of(engine: AsyncEngine) -> None:
    bus = RecordingBus()
    relay = EventRelay(bus, None)
    async with bus, relay.relaying(), AsyncSession(engine) as session:
        with pytest.raises(DatabaseUnavailableError) as caught:
            await relay.publish(session, StockChanged(number=1))
    assert caught.value.reason == relay.reason == "no database is configured"
    assert not relay.is_listening
    assert bus.events == []


async def test_who_relays_says_so(url: str) -> None:
    worker, alone = Worker(url), EventRelay(RecordingBus(), None)
    assert not worker.relay.is_relaying
    async with worker.running(), alone.relaying():
        assert worker.relay.is_relaying
        assert not alone.is_relaying
    assert not worker.relay.is_relaying


class DocumentChanged(BaseEvent):
    document: str


async def test_an_event_that_carries_a_document_is_refused(workers: list[Worker], engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(ValueError, match="DocumentChanged is too large: an event carries an id, never a document"):
            await workers[0].relay.publish(session, DocumentChanged(document="x" * 8000))


@pytest.mark.slow
async def test_a_restart_of_the_database_leaves_nothing_out_of_date(postgres_cluster: RunningCluster) -> None:
    url = postgres_cluster.address.url
    await asyncio.to_thread(prepare, url)
    worker = Worker(url)
    worker.bus.handler = worker.read
    async with worker.running():
        for number in range(1, 4):
            await asyncio.to_thread(postgres_cluster.stop)
            await until(lambda: not worker.relay.is_listening)
            await asyncio.sleep(1.5)
            await asyncio.to_thread(postgres_cluster.start)
            await asyncio.to_thread(change, url, number)
            # At most a second between two attempts.
            await until(lambda: worker.relay.is_listening, 3.0)
            await until(partial(worker.holds, number), 1.0)
            assert worker.times_missed == number + 1


def change(url: str, number: int) -> None:
    """Do what another process of the service does."""
    payload = _ANNOUNCEMENT.dump_json(_announcement(StockChanged(number=number))).decode()
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE stock SET pieces = %s", (number,))
        connection.execute("SELECT pg_notify('api_server_events', %s)", (payload,))


@pytest.mark.slow
async def test_a_freeze_of_the_database_leaves_nothing_out_of_date(postgres_cluster: RunningCluster) -> None:
    url = postgres_cluster.address.url
    await asyncio.to_thread(prepare, url)
    worker = Worker(url)
    worker.bus.handler = worker.read
    async with worker.running():
        with frozen(postgres_cluster):
            await until(lambda: not worker.relay.is_listening, 8.0)
        await asyncio.to_thread(change, url, 5)
        await until(lambda: worker.relay.is_listening)
        await until(partial(worker.holds, 5), 1.0)
        assert worker.times_missed == 2


@pytest.fixture
def older(tmp_path: Path) -> Iterator[str]:
    with older_postgres(tmp_path / "older") as server:
        yield server.url


@pytest.mark.slow
async def test_on_an_older_server_events_reach_every_process_too(older: str) -> None:
    here, there = Worker(older), Worker(older)
    engine = create_engine(older)
    async with here.running(), there.running(), AsyncSession(engine) as session:
        await here.relay.publish(session, StockChanged(number=1))
        await here.relay.commit(session)
        await until(lambda: there.numbers)
        await there.relay.publish(session, StockChanged(number=2))
        await there.relay.commit(session)
        await until(lambda: 2 in here.numbers)
    await engine.dispose()
    assert [here.numbers, there.numbers] == [[1, 2], [1, 2]]


@pytest.mark.slow
async def test_nothing_is_out_of_date_a_second_after_any_of_many_losses(url: str, engine: AsyncEngine) -> None:
    """Connections end at any moment, while the number is changed all the time."""
    workers = [Worker(url), Worker(url)]
    async with AsyncExitStack() as stack:
        for worker in workers:
            worker.bus.handler = worker.read
            await stack.enter_async_context(worker.running())
        for number in range(1, 101):
            async with AsyncSession(engine) as session:
                await (await session.connection()).execute(SET_STOCK, {"pieces": number})
                await workers[number % 2].relay.publish(session, StockChanged(number=number))
                await workers[number % 2].relay.commit(session)
            assert workers[number % 2].pieces == number
            if number % 10 == 0:
                await asyncio.to_thread(end_listeners, url)
                await until(lambda: all(worker.relay.is_listening for worker in workers))
        await until(lambda: all(worker.holds(100) for worker in workers), 1.0)


def end_listeners(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'api_server listener' AND datname = current_database()"
        )
