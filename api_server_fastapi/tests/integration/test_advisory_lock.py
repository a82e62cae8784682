"""Advisory locks: one holder among all processes, whatever happens to it, and nobody hangs for it."""

import asyncio
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from api_server.database import AdvisoryLock, advisory_lock, try_advisory_lock
from api_server.database.advisory_lock import (
    AdvisoryLockError,
    HeldLock,
    LockLostError,
    LockTimeoutError,
    PoolerRefusedError,
    _session,
    advisory_lock_async,
    try_advisory_lock_async,
)
from api_server.local.postgres import PostgresAddress
from api_server.settings import get_settings
from api_server.testing import RunningCluster, fresh_database
from frozen_server import frozen
from proxies import tcp_proxy

HOLDER = """
import sys
from api_server.database import advisory_lock
with advisory_lock(sys.argv[1], sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""
COUNTER = """
import sys, time
from pathlib import Path
from api_server.database import advisory_lock
for _ in range(3):
    with advisory_lock("counter", sys.argv[1]):
        number = int(Path(sys.argv[2]).read_text())
        time.sleep(0.02)
        Path(sys.argv[2]).write_text(str(number + 1))
"""


@pytest.fixture
def url(postgres: PostgresAddress) -> Iterator[str]:
    with fresh_database(postgres) as address:
        yield address.url


@contextmanager
def other_process(lock: str, url: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock until the end of the context, or until it is killed."""
    command = [sys.executable, "-c", HOLDER, lock, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def advisory_locks(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
    assert row is not None
    return int(row[0])


def test_of_several_processes_one_at_a_time_is_inside(url: str, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNTER, url, counter]) for _ in range(4)]
    assert [process.wait(30) for process in processes] == [0, 0, 0, 0]
    assert counter.read_text() == "12"


def test_a_lock_that_another_process_holds_is_not_had(url: str) -> None:
    with other_process(AdvisoryLock.MIGRATION, url):
        with try_advisory_lock(AdvisoryLock.MIGRATION, url) as held:
            assert held is None
        with try_advisory_lock("another lock", url) as held:
            assert held
            assert held.name == "another lock"


def test_a_lock_belongs_to_one_database(url: str, postgres: PostgresAddress) -> None:
    with other_process("lock", url), try_advisory_lock("lock", postgres.url) as held:
        assert held


def test_who_holds_a_lock_can_be_looked_up(url: str) -> None:
    with advisory_lock("lock", url) as held, psycopg.connect(url) as connection:
        query = "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory'"
        assert connection.execute(query).fetchall() == [("api_server advisory lock",)]
        query = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        assert connection.execute(query, (held.backend_pid,)).fetchone() == (1,)


def test_the_lock_of_a_killed_process_is_free_within_a_second(url: str) -> None:
    with other_process("lock", url) as holder:
        holder.kill()
        killed = time.monotonic()
        with advisory_lock("lock", url, timeout=5):
            assert time.monotonic() - killed <= 1


def test_an_error_in_the_body_gives_the_lock_up_and_is_the_error_that_is_told(url: str) -> None:
    with pytest.raises(ZeroDivisionError) as caught, advisory_lock("lock", url):
        _ = 1 / 0
    assert not hasattr(caught.value, "__notes__")
    assert advisory_locks(url) == 0


def test_an_interrupt_gives_the_lock_up(url: str) -> None:
    with pytest.raises(KeyboardInterrupt), advisory_lock("lock", url):
        raise KeyboardInterrupt
    assert advisory_locks(url) == 0


async def test_a_task_that_is_cancelled_gives_the_lock_up(url: str) -> None:
    inside = asyncio.Event()

    async def hold() -> None:
        async with advisory_lock_async("lock", url):
            inside.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(hold())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert advisory_locks(url) == 0


def test_who_waits_longer_than_its_deadline_is_told_by_whom_it_is_held(url: str) -> None:
    with advisory_lock("lock", url) as held:
        begun = time.monotonic()
        with pytest.raises(LockTimeoutError) as caught, advisory_lock("lock", url, timeout=0.5):
            pass
        assert 0.5 <= time.monotonic() - begun < 1.5
    assert str(caught.value) == (
        f"The lock lock did not become free within 0.5 s; the server's process {held.backend_pid} holds it."
    )


async def test_an_index_is_built_concurrently_while_somebody_waits(url: str) -> None:
    """It waits for every snapshot that is older than itself, and a blocked pg_advisory_lock() would hold one."""
    async with advisory_lock_async("lock", url):
        waiter = asyncio.create_task(wait_for("lock", url))
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute("CREATE TABLE indexed (id integer)")
            await asyncio.sleep(0.5)
            async with asyncio.timeout(5):
                await connection.execute("CREATE INDEX CONCURRENTLY ON indexed (id)")
        assert not waiter.done()
    await waiter


async def wait_for(lock: str, url: str) -> None:
    async with advisory_lock_async(lock, url, timeout=10):
        pass


async def test_who_waits_leaves_the_event_loop_to_others(url: str) -> None:
    async with advisory_lock_async("lock", url):
        waiter = asyncio.create_task(wait_for("lock", url))
        longest = 0.0
        for _ in range(100):
            begun = time.perf_counter()
            await asyncio.sleep(0.01)
            longest = max(longest, time.perf_counter() - begun)
        assert not waiter.done()
    await waiter
    assert longest < 0.15


async def test_a_try_in_an_event_loop_gives_none_when_held(url: str) -> None:
    async with advisory_lock_async("lock", url), try_advisory_lock_async("lock", url) as held:
        assert held is None
    async with try_advisory_lock_async("lock", url) as held:
        assert held


async def test_code_in_an_event_loop_is_sent_to_the_other_function(url: str) -> None:
    with pytest.raises(RuntimeError, match="use advisory_lock_async"), advisory_lock("lock", url):
        pass


async def test_a_pooler_is_refused(postgres: PostgresAddress) -> None:
    async with tcp_proxy(postgres, invents_process_numbers=True) as pooler:
        with pytest.raises(PoolerRefusedError, match=r"is a connection pooler, .* set API_SERVER_DATABASE_URL to the"):
            async with advisory_lock_async("lock", pooler):
                pass
    assert advisory_locks(postgres.url) == 0


async def test_a_proxy_that_passes_connections_on_is_not(postgres: PostgresAddress) -> None:
    async with tcp_proxy(postgres) as proxy, advisory_lock_async("lock", proxy) as held:
        assert held


async def test_a_lock_whose_session_ended_is_reported_lost(url: str) -> None:
    with pytest.raises(LockLostError, match="The lock lock was lost while it was held"):
        async with advisory_lock_async("lock", url) as held:
            await asyncio.to_thread(end_session, url, held)


async def test_a_lost_lock_does_not_hide_the_error_of_the_body(url: str) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        await lose_lock_and_fail(url)
    assert "was lost while it was held" in caught.value.__notes__[0]


async def lose_lock_and_fail(url: str) -> None:
    async with advisory_lock_async("lock", url) as held:
        await asyncio.to_thread(end_session, url, held)
        _ = 1 / 0


def end_session(url: str, held: HeldLock) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", (held.backend_pid,))


async def test_a_server_that_knows_nothing_of_the_lock_is_an_error(url: str) -> None:
    async with _session("lock", url) as session:
        with pytest.raises(LockLostError, match="the server knows nothing of it"):
            async with session.holding():
                pass


def test_a_standby_is_refused(postgres_cluster: RunningCluster) -> None:
    """It would give locks too, beside the primary's."""
    postgres_cluster.stop()
    (postgres_cluster.cluster.data / "standby.signal").touch()
    postgres_cluster.start()
    with pytest.raises(AdvisoryLockError, match="standby"), advisory_lock("lock", postgres_cluster.address.url):
        pass


@pytest.mark.slow
@pytest.mark.unguarded(
    "descriptors", reason="psycopg's request to cancel what a frozen server does is closed when its error is collected"
)
async def test_a_frozen_server_does_not_hold_who_waits_for_ever(postgres_cluster: RunningCluster) -> None:
    url = postgres_cluster.address.url
    async with advisory_lock_async("lock", url):
        waiter = asyncio.create_task(wait_for("lock", url))
        await asyncio.sleep(0.5)
        with frozen(postgres_cluster), pytest.raises(AdvisoryLockError, match="does not answer about the lock lock"):
            async with asyncio.timeout(20):
                await waiter


@pytest.mark.parametrize("scheme", ["postgresql://", "postgresql+psycopg://"])
def test_a_url_is_read_as_the_foundation_reads_it(url: str, scheme: str, unused_tcp_port: int) -> None:
    several = url.replace("@127.0.0.1", f"@127.0.0.1:{unused_tcp_port},127.0.0.1")
    with advisory_lock("lock", several.replace("postgresql://", scheme)):
        assert advisory_locks(url) == 1


@pytest.fixture
async def _own_settings() -> AsyncIterator[None]:
    async with AsyncExitStack() as after:
        after.callback(get_settings.cache_clear)
        get_settings.cache_clear()
        yield


@pytest.mark.usefixtures("_own_settings")
def test_without_a_url_the_setting_counts(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_SERVER_DATABASE_URL", url)
    with advisory_lock("lock"):
        assert advisory_locks(url) == 1


@pytest.mark.usefixtures("_own_settings")
def test_without_either_there_is_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("API_SERVER_DATABASE_URL", raising=False)
    with pytest.raises(AdvisoryLockError, match="API_SERVER_DATABASE_URL is not set: "), advisory_lock("lock"):
        pass


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://u:hush-hush@127.0.0.1:{port}/x", "The database cannot be used for the lock lock: connection"),
        ("postgresql://u:hush-hush@{server}/tests", "The database cannot be used for the lock lock: connection"),
        ("postgresql://u:hush%zzhush@127.0.0.1/x", "The database's URL cannot be read."),
    ],
)
def test_what_went_wrong_is_told_without_the_password(
    url: str, says: str, postgres: PostgresAddress, unused_tcp_port: int
) -> None:
    url = url.format(port=unused_tcp_port, server=f"127.0.0.1:{postgres.port}")
    with pytest.raises(AdvisoryLockError) as caught, advisory_lock("lock", url):
        pass
    assert str(caught.value).startswith(says)
    assert "hush" not in "".join(traceback.format_exception_only(caught.value))
    assert "hush" not in "".join(map(str, (caught.value, caught.value.__cause__, caught.value.__context__)))
