"""A unit of work is kept as a whole or not at all, says which where that is known, and always gives its place back."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import LiteralString

import asyncpg
import psycopg
import pytest
from api_server.local.postgres import PostgresAddress
from api_server.testing import RunningCluster
from cutting_proxy import CuttingProxy, cutting_proxy
from frozen_server import frozen
from piccolo_database import pool_on
from psycopg import sql
from throttling_sequencer.domain.errors import OutcomeUnknownError, StorageUnavailableError
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB
from throttling_sequencer.infrastructure.db.primary import PrimaryConnector, Writer
from throttling_sequencer.infrastructure.db.retrying import retried
from throttling_sequencer.infrastructure.db.storage import using_storage
from throttling_sequencer.infrastructure.db.unit_of_work import CommitInDoubtError, unit_of_work

KEEP = "INSERT INTO kept (key) VALUES ($1) ON CONFLICT (key) DO UPDATE SET attempts = kept.attempts + 1"
TABLE = "CREATE TABLE IF NOT EXISTS kept (key text UNIQUE DEFERRABLE INITIALLY IMMEDIATE, attempts int DEFAULT 1)"
PLAIN_TABLE = "CREATE TABLE IF NOT EXISTS kept (key text UNIQUE, attempts int DEFAULT 1)"


@pytest.fixture
def kept(database: PostgresAddress) -> PostgresAddress:
    """Give a database with a table to keep things in."""
    prepare(database)
    return database


@pytest.fixture
def server(postgres_cluster: RunningCluster) -> RunningCluster:
    """Give a server of the test's own with such a table."""
    prepare(postgres_cluster.address)
    return postgres_cluster


def prepare(address: PostgresAddress, table: LiteralString = PLAIN_TABLE) -> None:
    with psycopg.connect(address.url) as connection:
        # The servers of tests are started with it off, and some tests crash them.
        connection.execute("SET LOCAL synchronous_commit = on")
        connection.execute(table)


async def keep(key: str, within_s: float = 5.0) -> None:
    async with unit_of_work(within_s) as connection:
        await connection.execute(KEEP, key)


def keeping(key: str) -> Callable[[float], Awaitable[None]]:
    async def attempt(within_s: float) -> None:
        await keep(key, within_s)

    return attempt


@asynccontextmanager
async def looking_at(address: PostgresAddress) -> AsyncIterator[asyncpg.Connection]:
    """Give a connection of the test's own."""
    connection = await asyncpg.connect(address.url)
    try:
        yield connection
    finally:
        await connection.close()


async def rows(address: PostgresAddress) -> dict[str, int]:
    async with looking_at(address) as connection:
        return {row["key"]: row["attempts"] for row in await connection.fetch("SELECT key, attempts FROM kept")}


def free_places() -> int:
    assert DB.pool is not None
    return sum(holder._in_use is None for holder in DB.pool._holders)


def connector() -> PrimaryConnector:
    assert DB.connector is not None
    return DB.connector


def writer() -> Writer:
    assert DB.writer is not None
    return DB.writer


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.005)


async def test_what_is_done_is_kept_and_the_connection_used_again(kept: PostgresAddress) -> None:
    async with pool_on(kept):
        pids = []
        for key in "ab":
            async with unit_of_work(5.0) as connection:
                await connection.execute(KEEP, key)
                pids.append(await connection.fetchval("SELECT pg_backend_pid()"))
        assert pids[0] == pids[1]
        assert free_places() == 5
    assert await rows(kept) == {"a": 1, "b": 1}


async def test_nothing_is_kept_where_the_work_fails(kept: PostgresAddress, caplog: pytest.LogCaptureFixture) -> None:
    async with pool_on(kept, PICCOLO_DB_POOL_SIZE="1"):
        pids: set[int] = set()
        for error in (ValueError("a mistake"), asyncpg.SerializationError("in the way"), KeyError()):
            with pytest.raises(type(error)):
                await fail(error, pids)
        assert len(pids) == 1
        assert free_places() == 1
    assert await rows(kept) == {}
    # The pool gets no connection back that is in a transaction, of which it would complain.
    assert caplog.records == []


async def fail(error: Exception, pids: set[int]) -> None:
    async with unit_of_work(5.0) as connection:
        pids.add(await connection.fetchval("SELECT pg_backend_pid()"))
        await connection.execute(KEEP, "a")
        raise error


async def test_an_error_that_the_work_hides_is_no_success(kept: PostgresAddress) -> None:
    async with pool_on(kept):
        with pytest.raises(asyncpg.InFailedSQLTransactionError, match="a statement had failed"):
            await hide_an_error()
        await keep("b")
    assert await rows(kept) == {"b": 1}


async def hide_an_error() -> None:
    async with unit_of_work(5.0) as connection:
        await connection.execute(KEEP, "a")
        with suppress(asyncpg.UndefinedTableError):
            await connection.execute("SELECT * FROM nothing")


async def test_a_commit_that_the_server_refuses_is_in_no_doubt(database: PostgresAddress) -> None:
    await asyncio.to_thread(prepare, database, TABLE)
    async with pool_on(database):
        for _ in range(2):
            with pytest.raises(asyncpg.UniqueViolationError):
                await keep_twice()
        assert free_places() == 5
    assert await rows(database) == {}


async def keep_twice() -> None:
    async with unit_of_work(5.0) as connection:
        await connection.execute("SET CONSTRAINTS ALL DEFERRED")
        await connection.execute("INSERT INTO kept (key) VALUES ('a'), ('a')")


async def test_what_takes_too_long_is_ended_and_not_kept(kept: PostgresAddress) -> None:
    async with pool_on(kept, PICCOLO_DB_POOL_SIZE="1"):
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            await keep_and_sleep("a", 10, within_s=0.3)
        assert time.monotonic() - begun < 0.8
        with pytest.raises(TimeoutError):
            async with unit_of_work(0.2):
                await asyncio.sleep(10)
        # The statement is at work no longer.
        async with looking_at(kept) as other:
            query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(10)' AND state = 'active'"
            assert await other.fetchval(query) == 0
        await keep("b")
    assert await rows(kept) == {"b": 1}


async def keep_and_sleep(key: str, seconds: float, within_s: float) -> None:
    async with unit_of_work(within_s) as connection:
        await connection.execute(KEEP, key)
        await connection.execute(f"SELECT pg_sleep({seconds})")


async def test_a_statement_has_a_second(kept: PostgresAddress) -> None:
    async with pool_on(kept):
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            await keep_and_sleep("a", 10, within_s=10.0)
        assert 0.9 < time.monotonic() - begun < 2.0


@pytest.mark.parametrize("moment", ["in the work", "before the commit"])
async def test_a_connection_that_is_killed_is_replaced_and_the_work_done_once(
    kept: PostgresAddress, moment: str
) -> None:
    size = 2
    async with looking_at(kept) as killer, pool_on(kept, PICCOLO_DB_POOL_SIZE=str(size)):
        for number in range(size + 2):
            killed: list[bool] = []

            async def attempt(within_s: float, key: str = f"key {number}", killed: list[bool] = killed) -> None:
                async with unit_of_work(within_s) as connection:
                    pid = await connection.fetchval("SELECT pg_backend_pid()")
                    if not killed and moment == "in the work":
                        killed.append(await killer.fetchval("SELECT pg_terminate_backend($1, 5000)", pid))
                    await connection.execute(KEEP, key)
                    if not killed:
                        killed.append(await killer.fetchval("SELECT pg_terminate_backend($1, 5000)", pid))

            await retried(attempt, within_s=5.0)
            assert killed == [True]
        assert free_places() == size
    assert await rows(kept) == {f"key {number}": 1 for number in range(size + 2)}


async def test_a_commit_that_never_arrives_is_repeated(kept: PostgresAddress) -> None:
    async with cutting_proxy(kept) as (proxy, address), pool_on(address, PICCOLO_DB_POOL_SIZE="2"):
        for number in range(4):
            proxy.before_commit = 1
            with pytest.raises(CommitInDoubtError):
                await keep(f"key {number}")
            # In the same task.
            await keep(f"key {number}")
        assert free_places() == 2
    assert await rows(kept) == {f"key {number}": 1 for number in range(4)}


async def test_a_commit_whose_answer_is_lost_is_in_doubt_and_repeating_it_keeps_one(kept: PostgresAddress) -> None:
    async with cutting_proxy(kept) as (proxy, address), pool_on(address, PICCOLO_DB_POOL_SIZE="2"):
        for number in range(4):
            proxy.after_commit = 1
            await retried(keeping(f"key {number}"), within_s=5.0)
        assert proxy.cut == 4
        assert free_places() == 2
    assert await rows(kept) == {f"key {number}": 2 for number in range(4)}


async def test_who_never_hears_of_a_commit_does_not_know_the_outcome(kept: PostgresAddress) -> None:
    async with cutting_proxy(kept) as (proxy, address), pool_on(address):
        proxy.after_commit = 1000
        begun = time.monotonic()
        with pytest.raises(OutcomeUnknownError):
            await retried(keeping("a"), within_s=0.5)
        assert time.monotonic() - begun < 1.0
        assert free_places() == 5
    assert list(await rows(kept)) == ["a"]


@asynccontextmanager
async def without_its_standby(server: RunningCluster) -> AsyncIterator[asyncpg.Connection]:
    """Have commits wait for a standby that does not exist; give a connection whose own do not."""
    async with looking_at(server.address) as connection:
        await connection.execute("SET synchronous_commit = off")
        await connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        await connection.execute("ALTER SYSTEM SET synchronous_commit = on")
        await connection.execute("SELECT pg_reload_conf()")
        await until(lambda: is_shown(server.address, "synchronous_standby_names", "nobody"))
        try:
            yield connection
        finally:
            await connection.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
            await connection.execute("SELECT pg_reload_conf()")


async def is_shown(address: PostgresAddress, setting: str, value: str) -> bool:
    async with looking_at(address) as connection:
        return bool(await connection.fetchval(f"SHOW {setting}") == value)


async def has_a_waiting_commit(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))


async def test_a_commit_that_the_server_has_on_its_own_disk_only_is_in_doubt(server: RunningCluster) -> None:
    """It answers that it has committed, and warns that a standby may not have it: a failover may lose that."""
    async with pool_on(server.address), without_its_standby(server) as operator:
        task = asyncio.create_task(keep_synchronously("a"))
        await until(lambda: has_a_waiting_commit(operator))
        await operator.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        with pytest.raises(CommitInDoubtError, match="canceling wait for synchronous replication"):
            await task
        assert free_places() == 5


async def keep_synchronously(key: str, within_s: float = 5.0) -> None:
    async with unit_of_work(within_s) as connection:
        await connection.execute("SET LOCAL synchronous_commit = on")
        await connection.execute(KEEP, key)


async def test_while_no_standby_has_it_nothing_is_acknowledged(server: RunningCluster) -> None:
    async with pool_on(server.address):
        async with without_its_standby(server):
            begun = time.monotonic()
            with pytest.raises(OutcomeUnknownError):
                await retried(partial(keep_synchronously, "a"), within_s=1.5)
            assert time.monotonic() - begun < 2.0
            assert free_places() == 5
        await retried(partial(keep_synchronously, "a"), within_s=5.0)
    assert list(await rows(server.address)) == ["a"]


@pytest.mark.parametrize("moment", ["waiting for a place", "in the work", "in the commit"])
async def test_who_is_cancelled_leaves_no_place_taken_and_no_task(
    server: RunningCluster, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    tasks_before = asyncio.all_tasks()
    async with pool_on(server.address, PICCOLO_DB_POOL_SIZE="1"), without_its_standby(server) as operator:
        await keep_asynchronously("first")
        if moment == "waiting for a place":
            async with unit_of_work(5.0):
                task = asyncio.create_task(retried(keeping("a"), within_s=5.0))
                await asyncio.sleep(0.01)
                task.cancel()
                await asyncio.wait({task})
        elif moment == "in the work":
            task = asyncio.create_task(keep_and_sleep("a", 0.9, within_s=5.0))
            await until(lambda: is_asleep(operator))
            task.cancel()
        else:
            task = asyncio.create_task(keep_synchronously("a"))
            await until(lambda: has_a_waiting_commit(operator))
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert free_places() == 1
        await keep_asynchronously("last")
    assert asyncio.all_tasks() == tasks_before
    # As above.
    assert caplog.records == []


async def keep_asynchronously(key: str) -> None:
    async with unit_of_work(5.0) as connection:
        await connection.execute("SET LOCAL synchronous_commit = off")
        await connection.execute(KEEP, key)


async def is_asleep(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))


async def test_a_pool_that_is_worn_out_sheds_its_load(kept: PostgresAddress) -> None:
    """Two hundred that take a while each, and five places: who waits too long is told so, in time."""

    async def attempt(within_s: float) -> None:
        async with unit_of_work(within_s) as connection:
            await connection.execute("SELECT pg_sleep(0.2)")

    async def timed() -> tuple[float, bool]:
        begun = time.monotonic()
        try:
            await retried(attempt, within_s=1.0)
        except StorageUnavailableError:
            return time.monotonic() - begun, False
        return time.monotonic() - begun, True

    async with pool_on(kept, PICCOLO_DB_POOL_SIZE="5"):
        ends = await asyncio.gather(*(timed() for _ in range(200)))
        assert max(seconds for seconds, _ in ends) < 1.5
        assert 5 <= sum(is_done for _, is_done in ends) <= 30
        assert free_places() == 5
        await keep("a")


@pytest.mark.slow
async def test_on_a_frozen_server_everything_ends_in_time_and_works_again_after_it(server: RunningCluster) -> None:
    async with pool_on(server.address, PICCOLO_DB_POOL_SIZE="3"):
        await asyncio.gather(*(keep(f"before {number}") for number in range(3)))
        with frozen(server):
            begun = time.monotonic()
            ends = await asyncio.gather(
                *(retried(keeping(f"key {number}"), within_s=2.0) for number in range(20)), return_exceptions=True
            )
            assert time.monotonic() - begun < 2.5
            assert {type(end) for end in ends} <= {StorageUnavailableError, OutcomeUnknownError}
            assert free_places() == 3
        await asyncio.gather(*(retried(keeping(f"key {number}"), within_s=5.0) for number in range(20)))
    assert len(await rows(server.address)) == 23


def signal_server(server: RunningCluster, number: signal.Signals) -> None:
    os.kill(int((server.cluster.data / "postmaster.pid").read_text().splitlines()[0]), number)


@pytest.mark.slow
@pytest.mark.parametrize(
    "signals",
    [(signal.SIGTERM, signal.SIGINT), (signal.SIGINT,), (signal.SIGQUIT,)],
    ids=["smart", "fast", "immediate"],
)
async def test_a_server_that_stops_and_starts_again_costs_nobody_an_error(
    server: RunningCluster, signals: Sequence[signal.Signals]
) -> None:
    async with pool_on(server.address):
        stop = asyncio.Event()

        async def write(place: int) -> int:
            number = 0
            while not stop.is_set():
                await retried(partial(keep_synchronously, f"{place}/{number}"), within_s=10.0)
                number += 1
            return number

        writers = [asyncio.create_task(write(place)) for place in range(10)]
        await asyncio.sleep(0.2)
        for number in signals:
            signal_server(server, number)
            # A smart shutdown lets those in who are in, and nobody else.
            await asyncio.sleep(0.2)
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.start)
        await asyncio.sleep(0.5)
        stop.set()
        numbers = await asyncio.gather(*writers)
        assert free_places() == 5
    assert len(await rows(server.address)) == sum(numbers)
    assert min(numbers) > 1


@pytest.fixture
def narrow(database: PostgresAddress) -> PostgresAddress:
    """Give a database that lets in two connections at a time."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("DO $$ BEGIN CREATE ROLE narrow LOGIN PASSWORD 'x'; EXCEPTION WHEN OTHERS THEN END $$")
        connection.execute("ALTER ROLE narrow CONNECTION LIMIT 2")
    return PostgresAddress(database.host, database.port, "narrow", database.database, "x")


async def test_where_no_more_connections_are_let_in_those_that_are_serve_everybody(
    narrow: PostgresAddress, capfd: pytest.CaptureFixture[str]
) -> None:
    """In turn: nobody waits out his time for a connection of his own."""
    waited: list[float] = []

    async def attempt(within_s: float) -> None:
        async with unit_of_work(within_s) as connection:
            await connection.execute("SELECT pg_sleep(0.02)")

    async def work() -> None:
        for _ in range(12):
            begun = time.monotonic()
            await retried(attempt, within_s=3.0)
            waited.append(time.monotonic() - begun)

    async with pool_on(narrow, PICCOLO_DB_POOL_SIZE="8"):
        await asyncio.gather(*(work() for _ in range(6)))
        assert DB.pool is not None
        assert DB.pool.get_size() == 2
        assert connector().lost_since is None
        assert free_places() == 8
    assert len(waited) == 72
    assert max(waited) < 1.5
    assert "no writer is found" not in capfd.readouterr().out


def make_default_read_only(address: PostgresAddress, value: LiteralString) -> None:
    """Have all sessions of a server, the present ones too, take writes or not."""
    with psycopg.connect(address.url, autocommit=True, options="-c default_transaction_read_only=off") as connection:
        connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        connection.execute("SELECT pg_reload_conf()")


def refuse_writes(address: PostgresAddress, value: LiteralString) -> None:
    """Have new sessions of a database take writes or not."""
    with psycopg.connect(address.url, autocommit=True, options="-c default_transaction_read_only=off") as connection:
        name = sql.Identifier(address.database)
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}").format(name, sql.SQL(value))
        )


async def two_hosts(server: RunningCluster, kept: PostgresAddress) -> tuple[PostgresAddress, dict[str, str]]:
    """Give a database of the first server like that on the second, which takes no writes, and the way to both."""
    await asyncio.to_thread(refuse_writes, kept, "on")
    async with looking_at(server.address) as operator:
        await operator.execute(f'CREATE DATABASE "{kept.database}"')
        await operator.execute(f"ALTER ROLE {kept.user} PASSWORD '{kept.password}'")
    old = replace(kept, port=server.address.port)
    await asyncio.to_thread(prepare, old)
    hosts = {"PICCOLO_DB_HOST": f"{old.host},{kept.host}", "PICCOLO_DB_PORT": f"{old.port},{kept.port}"}
    return old, hosts


async def test_what_waits_for_a_frozen_server_goes_to_another_as_soon_as_there_is_one(
    server: RunningCluster, kept: PostgresAddress
) -> None:
    """Not when its time is over: the other hosts are asked meanwhile."""
    old, hosts = await two_hosts(server, kept)
    errors: list[Exception] = []

    async def attempt(within_s: float) -> None:
        try:
            await keep("a", within_s)
        except (asyncpg.PostgresError, TimeoutError) as error:
            errors.append(error)
            raise

    async with pool_on(old, **hosts):
        await keep("before")
        assert writer().port == old.port
        with frozen(server):
            waiting = asyncio.create_task(retried(attempt, within_s=5.0))
            await asyncio.to_thread(refuse_writes, kept, "off")
            await waiting
        assert writer().port == kept.port
    assert [type(error) for error in errors] == [asyncpg.ConnectionDoesNotExistError]
    assert await rows(kept) == {"a": 1}


async def test_a_server_that_takes_writes_no_longer_is_left_at_once(
    server: RunningCluster, kept: PostgresAddress
) -> None:
    """The pool's connections to it live on, and each would fail; another server takes over."""
    size = 5
    old, hosts = await two_hosts(server, kept)
    refused = []

    async def attempt(within_s: float) -> None:
        try:
            await keep("a", within_s)
        except asyncpg.ReadOnlySQLTransactionError:
            refused.append(time.monotonic())
            raise

    async with pool_on(old, **hosts, PICCOLO_DB_POOL_SIZE=str(size)):
        async with asyncio.TaskGroup() as all_places:
            for _ in range(size):
                all_places.create_task(keep("a"))
        assert writer().port == old.port
        await asyncio.to_thread(make_default_read_only, old, "on")
        await asyncio.to_thread(refuse_writes, kept, "off")
        turned = time.monotonic()
        while time.monotonic() - turned < 1.5:
            await asyncio.gather(*(retried(attempt, within_s=5.0) for _ in range(10)))
            await asyncio.sleep(0.02)
        assert 1 <= len(refused) <= size
        assert max(refused) - turned < 1.0
        assert writer().port == kept.port
        assert free_places() == size
    await asyncio.to_thread(make_default_read_only, old, "off")


@pytest.mark.slow
async def test_while_no_server_takes_writes_who_asks_is_told_soon_and_so_is_who_asks_when_one_does(
    server: RunningCluster,
) -> None:
    async def look() -> None:
        async with using_storage(3.0):
            await DB.run_ddl("SELECT 1")

    async with pool_on(server.address):
        await look()
        await asyncio.to_thread(server.stop)
        with pytest.raises(StorageUnavailableError):
            await look()
        while connector().lost_for_s <= 1.0:
            with pytest.raises(StorageUnavailableError):
                await look()
        begun = time.monotonic()
        with pytest.raises(StorageUnavailableError) as caught:
            await look()
        assert time.monotonic() - begun < 1.0
        assert "Connect call failed" in caught.value.reason
        await asyncio.to_thread(server.start)
        await look()
        assert connector().lost_for_s == 0.0


async def test_a_proxy_is_a_single_host_like_any_other(kept: PostgresAddress) -> None:
    async with cutting_proxy(kept) as (proxy, address), pool_on(address):
        assert isinstance(proxy, CuttingProxy)
        await keep("a")
        assert writer().timeline == 1
