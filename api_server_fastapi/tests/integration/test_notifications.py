"""Notifications: heard in order and after a commit only, by a listener that nothing ends."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from api_server.database import notifications
from api_server.database.connection import create_engine
from api_server.database.notifications import MOST_BYTES, NotificationListener, PayloadTooLargeError, notify
from api_server.local.postgres import PostgresAddress
from api_server.testing import RunningCluster
from frozen_server import frozen
from older_postgres import older_postgres
from proxies import tcp_proxy
from recording_bus import until
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel.ext.asyncio.session import AsyncSession
from structlog.testing import capture_logs

LISTENERS = "application_name = 'api_server listener' AND datname = current_database()"


@pytest.fixture
def url(database: PostgresAddress) -> str:
    return database.url


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(url)
    yield engine
    await engine.dispose()


@dataclass
class Ear:
    """Keeps what a listener says, `takes_s` seconds for each payload, and fails for those of `failing`."""

    url: str
    pooler_interval: float = 5.0
    channel: str = "Tests"
    failing: dict[str, BaseException] = field(default_factory=dict)
    takes_s: float = 0.0
    heard: list[str] = field(default_factory=list)
    times_begun: int = 0

    def __post_init__(self) -> None:
        self.listener = NotificationListener(
            self.url, self.channel, received=self.received, began=self.began, pooler_interval=self.pooler_interval
        )

    async def received(self, payload: str) -> None:
        self.heard.append(payload)
        time.sleep(self.takes_s)  # noqa: ASYNC251 - as one that computes
        if payload in self.failing:
            raise self.failing[payload]

    async def began(self) -> None:
        self.times_begun += 1
        if "" in self.failing:
            raise self.failing[""]


def announce(url: str, *payloads: str, channel: str = "Tests") -> None:
    with psycopg.connect(url) as connection:
        for payload in payloads:
            connection.execute("SELECT pg_notify(%s, %s)", (channel, payload))


def terminate_listeners(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {LISTENERS}")


def number_of_listeners(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(f"SELECT count(*) FROM pg_stat_activity WHERE {LISTENERS}").fetchone()
    assert row is not None
    return int(row[0])


async def test_what_is_committed_is_heard(url: str, engine: AsyncEngine) -> None:
    ear = Ear(url)
    async with ear.listener.listening():
        assert ear.listener.is_listening
        assert ear.listener.reason is None
        async with AsyncSession(engine) as session:
            await notify(session, "Tests", "é 1")
            await session.commit()
        await until(lambda: ear.heard, 2)
    assert ear.heard == ["é 1"]
    assert ear.times_begun == 1


async def test_what_is_rolled_back_is_never_heard(url: str, engine: AsyncEngine) -> None:
    ear = Ear(url)
    async with ear.listener.listening(), AsyncSession(engine) as session:
        await notify(session, "Tests", "rolled back")
        await session.rollback()
        await notify(session, "Tests", "committed")
        await session.commit()
        await until(lambda: ear.heard)
    assert ear.heard == ["committed"]


async def test_what_is_announced_elsewhere_is_not_heard(url: str) -> None:
    ear = Ear(url)
    async with ear.listener.listening():
        await asyncio.to_thread(announce, url, "elsewhere", channel="tests")
        await asyncio.to_thread(announce, url, "here")
        await until(lambda: ear.heard)
    assert ear.heard == ["here"]


async def test_many_notifications_of_a_transaction_arrive_in_order(url: str) -> None:
    ear, payloads = Ear(url), [f"{number}" + "x" * 1000 for number in range(500)]
    async with ear.listener.listening():
        await asyncio.to_thread(announce, url, *payloads)
        await until(lambda: len(ear.heard) == len(payloads))
    assert ear.heard == payloads


async def test_the_largest_payload_is_carried_and_a_larger_one_refused(url: str, engine: AsyncEngine) -> None:
    ear = Ear(url)
    largest = "é" + "x" * (MOST_BYTES - 2)
    async with ear.listener.listening(), AsyncSession(engine) as session:
        with pytest.raises(PayloadTooLargeError, match=r"carries 7,999 bytes at most, and this payload has 8,000\."):
            await notify(session, "Tests", largest + "x")
        await notify(session, "Tests", largest)
        await session.commit()
        await until(lambda: ear.heard)
    assert ear.heard == [largest]


@pytest.mark.parametrize("error", [ZeroDivisionError("one"), asyncio.CancelledError("one")])
async def test_a_callback_that_fails_does_not_end_the_listener(url: str, error: BaseException) -> None:
    ear = Ear(url, failing={"": error, "1": error})
    with capture_logs() as lines:
        async with ear.listener.listening():
            await asyncio.to_thread(announce, url, "1", "2")
            await until(lambda: len(ear.heard) == 2)
    assert ear.times_begun == 1
    assert [line["event"] for line in lines] == [
        "a notification was not handled",
        "notifications are heard",
        "a notification was not handled",
    ]


async def test_what_is_said_while_a_quiet_connection_is_asked_is_heard(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "_QUIET_S", 0.0)
    ear, payloads = Ear(url), [str(number) for number in range(300)]
    async with ear.listener.listening():
        await asyncio.to_thread(announce_one_by_one, url, payloads)
        await until(lambda: len(ear.heard) == len(payloads))
    assert ear.heard == payloads
    assert ear.times_begun == 1


def announce_one_by_one(url: str, payloads: list[str]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for payload in payloads:
            connection.execute("SELECT pg_notify('Tests', %s)", (payload,))


async def test_callbacks_that_wait_for_nothing_leave_the_event_loop_to_others(url: str) -> None:
    ear = Ear(url, takes_s=0.002)
    async with ear.listener.listening():
        await asyncio.to_thread(announce, url, *map(str, range(100)))
        await until(lambda: len(ear.heard) == 100)


async def test_a_lost_connection_is_replaced_and_told_once(url: str) -> None:
    ear = Ear(url)
    with capture_logs() as lines:
        async with ear.listener.listening():
            await asyncio.to_thread(terminate_listeners, url)
            await until(lambda: ear.times_begun == 2, 1.0)
            await asyncio.to_thread(announce, url, "again")
            await until(lambda: ear.heard)
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("notifications are heard", "info"),
        ("notifications are not heard", "warning"),
        ("notifications are heard", "info"),
    ]
    assert "server closed the connection" in lines[1]["reason"]


async def test_what_changes_while_what_is_held_is_read_is_heard_of(url: str) -> None:
    """Who read first and listened then would never know of a change in between."""
    heard = asyncio.Event()

    async def began() -> None:
        await asyncio.to_thread(announce, url, "meanwhile")

    async def received(payload: str) -> None:
        heard.set()

    listener = NotificationListener(url, "Tests", received=received, began=began)
    async with listener.listening(), asyncio.timeout(2):
        await heard.wait()


async def test_a_server_without_its_database_starts_at_once_and_says_why(unused_tcp_port: int) -> None:
    ear = Ear(f"postgresql://somebody:hush-hush@127.0.0.1:{unused_tcp_port}/nowhere")
    begun = time.monotonic()
    with capture_logs() as lines:
        async with ear.listener.listening():
            assert time.monotonic() - begun <= 0.5
            assert not ear.listener.is_listening
            assert "refused" in str(ear.listener.reason)
            leaving = time.monotonic()
    assert time.monotonic() - leaving < 0.2
    assert ear.listener.reason == "it was ended"
    assert ear.times_begun == 0
    assert [line["event"] for line in lines] == ["notifications are not heard"]
    assert "hush" not in str(lines)


@pytest.mark.slow
async def test_a_database_that_says_nothing_delays_a_start_by_two_seconds() -> None:
    # It accepts nobody; the kernel does.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        ear = Ear(f"postgresql://somebody@127.0.0.1:{port}/nowhere?connect_timeout=10")
        begun = time.monotonic()
        async with ear.listener.listening():
            assert 1.5 <= time.monotonic() - begun <= 2.5
            assert ear.listener.reason == "it has not connected yet"
            leaving = time.monotonic()
        assert time.monotonic() - leaving < 0.2


async def test_a_url_that_nobody_can_read_is_told_without_it() -> None:
    ear = Ear("postgresql://u:hush%zzhush@127.0.0.1/x")
    with capture_logs() as lines:
        async with ear.listener.listening():
            pass
    assert [line["reason"] for line in lines] == ["UnreadableUrlError: The database's URL cannot be read."]
    assert "hush" not in str(lines)


async def test_it_hears_when_the_database_appears(postgres: PostgresAddress, database: PostgresAddress) -> None:
    await asyncio.to_thread(let_in, postgres, database, False)
    ear = Ear(database.url)

    async def appear() -> None:
        await until(lambda: "is not currently accepting connections" in str(ear.listener.reason))
        await asyncio.to_thread(let_in, postgres, database, True)

    appearing = asyncio.create_task(appear())
    async with ear.listener.listening():
        await appearing
        await until(lambda: ear.listener.is_listening, 2.0)
        await asyncio.to_thread(announce, database.url, "appeared")
        await until(lambda: ear.heard)
    assert ear.times_begun == 1


def let_in(server: PostgresAddress, database: PostgresAddress, yes: bool) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {database.database} ALLOW_CONNECTIONS {yes}")


async def test_a_server_that_answers_nobody_does_not_hold_who_leaves() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ear = Ear(f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/x")
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            await entered(ear, give_up_after=0.3)
    assert time.monotonic() - begun < 0.6


async def entered(ear: Ear, *, give_up_after: float) -> None:
    async with asyncio.timeout(give_up_after), ear.listener.listening():
        pass


async def test_nothing_is_left_in_the_server(url: str) -> None:
    ear = Ear(url)
    async with ear.listener.listening():
        assert await asyncio.to_thread(number_of_listeners, url) == 1
    async with asyncio.timeout(2):
        while await asyncio.to_thread(number_of_listeners, url):
            await asyncio.sleep(0.01)
    assert not ear.listener.is_listening


async def test_behind_a_pooler_what_is_held_is_read_again_and_again(database: PostgresAddress) -> None:
    async with tcp_proxy(database, invents_process_numbers=True) as pooler:
        ear = Ear(pooler, pooler_interval=0.1)
        with capture_logs() as lines:
            async with ear.listener.listening():
                assert ear.times_begun == 1
                await until(lambda: ear.times_begun == 3, 1.0)
                assert not ear.listener.is_listening
    assert [line["event"] for line in lines] == ["notifications are not heard"]
    assert str(lines[0]["reason"]).endswith(
        "is a connection pooler, which passes no notifications on: "
        "set API_SERVER_DATABASE_URL to the database server itself."
    )


async def test_through_a_proxy_that_passes_connections_on_notifications_are_heard(database: PostgresAddress) -> None:
    async with tcp_proxy(database) as proxy:
        ear = Ear(proxy)
        async with ear.listener.listening():
            await asyncio.to_thread(announce, database.url, "1")
            await until(lambda: ear.heard)


@pytest.mark.slow
def test_a_standby_is_not_listened_to(postgres_cluster: RunningCluster) -> None:
    postgres_cluster.stop()
    (postgres_cluster.cluster.data / "standby.signal").touch()
    postgres_cluster.start()
    ear = Ear(postgres_cluster.address.url)

    async def listen() -> str | None:
        async with ear.listener.listening():
            return ear.listener.reason

    assert "standby" in str(asyncio.run(listen()))
    assert ear.times_begun == 0


@pytest.mark.slow
async def test_a_server_that_froze_is_noticed_and_heard_again_when_it_thaws(postgres_cluster: RunningCluster) -> None:
    ear = Ear(postgres_cluster.address.url)
    async with ear.listener.listening():
        with frozen(postgres_cluster):
            await until(lambda: not ear.listener.is_listening, 8.0)
            assert ear.listener.reason == "OperationalError: the server does not answer within 3 s"
            await until(lambda: "timeout" in str(ear.listener.reason))
        await until(lambda: ear.listener.is_listening, 5.0)
        assert ear.times_begun == 2
        await asyncio.to_thread(announce, postgres_cluster.address.url, "thawed")
        await until(lambda: ear.heard)


@pytest.mark.slow
async def test_a_server_that_froze_does_not_hold_who_leaves(postgres_cluster: RunningCluster) -> None:
    """Four seconds of silence: the question whether it lives is asked, and not answered."""
    ear = Ear(postgres_cluster.address.url)
    with frozen_later(postgres_cluster) as freeze:
        async with ear.listener.listening():
            freeze()
            await asyncio.sleep(4)
            assert ear.listener.is_listening
            leaving = time.monotonic()
        assert time.monotonic() - leaving < 0.2


@contextmanager
def frozen_later(server: RunningCluster) -> Iterator[Callable[[], None]]:
    """Freeze a server when it is asked for, until the end of the context."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(frozen(server))


@pytest.fixture
def older(tmp_path: Path) -> Iterator[str]:
    with older_postgres(tmp_path / "older") as server:
        yield server.url


@pytest.mark.slow
async def test_an_older_server_is_heard_too(older: str) -> None:
    ear = Ear(older)
    async with ear.listener.listening():
        await asyncio.to_thread(announce, older, "1", "2")
        await until(lambda: len(ear.heard) == 2)
        await asyncio.to_thread(terminate_listeners, older)
        await until(lambda: ear.times_begun == 2)
