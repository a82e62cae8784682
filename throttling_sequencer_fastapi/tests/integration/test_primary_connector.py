"""The server that takes writes is found, wherever it is, and whatever else answers or does not."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from api_server.local.postgres import PostgresAddress
from pydantic import SecretStr
from scripted_postgres import ScriptedServer, black_hole, scripted
from throttling_sequencer.core.database_config import PiccoloDBConfig
from throttling_sequencer.infrastructure.db.primary import (
    NoRoomError,
    NotTheWriterError,
    PrimaryConnector,
    Writer,
)
from writer_ears import HeardOfWriters


def config_of(*addresses: tuple[str, int], **more: Any) -> PiccoloDBConfig:
    hosts, ports = zip(*addresses, strict=True)
    return PiccoloDBConfig(host=hosts, port=ports, user="u", database="d", **more)


def config_for(*servers: ScriptedServer) -> PiccoloDBConfig:
    return config_of(*((server.host, server.port) for server in servers))


@pytest.fixture
def heard() -> HeardOfWriters:
    return HeardOfWriters()


@asynccontextmanager
async def connecting(
    config: PiccoloDBConfig, heard: HeardOfWriters, **tunables: Any
) -> AsyncIterator[PrimaryConnector]:
    connector = PrimaryConnector(config, heard, **tunables)
    try:
        yield connector
    finally:
        await connector.close()


async def port_of(connection: asyncpg.Connection) -> int:
    """Close a connection, and return where it led to."""
    port: int = connection._transport.get_extra_info("peername")[1]
    connection.terminate()
    # The transport lets go of its socket a moment later.
    await asyncio.sleep(0)
    return port


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_host_that_answers_nothing_delays_nobody(heard: HeardOfWriters, is_first: bool) -> None:
    writer = ScriptedServer()
    async with scripted(writer), black_hole() as hole:
        addresses = [("127.0.0.1", hole), ("127.0.0.1", writer.port)]
        config = config_of(*(addresses if is_first else addresses[::-1]))
        async with connecting(config, heard) as connector:
            begun = time.monotonic()
            assert await port_of(await connector.connect()) == writer.port
            assert time.monotonic() - begun < 0.6


async def test_a_frozen_writer_is_left_after_its_time(heard: HeardOfWriters) -> None:
    frozen, other = ScriptedServer(), ScriptedServer(is_standby=True)
    async with scripted(frozen, other), connecting(config_for(frozen, other), heard) as connector:
        assert await port_of(await connector.connect()) == frozen.port
        frozen.is_silent, other.is_standby, other.timeline = True, False, 2
        begun = time.monotonic()
        assert await port_of(await connector.connect()) == other.port
        assert 0.5 <= time.monotonic() - begun < 1.2
        assert heard.changes == [(None, frozen.writer), (frozen.writer, other.writer)]


async def test_the_writer_that_is_known_is_asked_alone(heard: HeardOfWriters) -> None:
    writer, standby = ScriptedServer(), ScriptedServer(is_standby=True)
    async with scripted(writer, standby), connecting(config_for(standby, writer), heard) as connector:
        for _ in range(5):
            assert await port_of(await connector.connect()) == writer.port
        assert (writer.asked, standby.asked) == (5, 1)
        assert heard.changes == [(None, writer.writer)]


async def test_where_there_are_doubts_all_are_asked(heard: HeardOfWriters) -> None:
    """The old primary may take writes still, which would wait for a standby that is one no longer."""
    old, new = ScriptedServer(), ScriptedServer(is_standby=True)
    async with scripted(old, new), connecting(config_for(old, new), heard) as connector:
        kept = await connector.connect()
        new.is_standby, new.timeline = False, 2
        assert await port_of(await connector.connect()) == old.port
        connector.doubt()
        assert await port_of(await connector.connect()) == new.port
        assert heard.changes[1:] == [(old.writer, new.writer)]
        # What leads to the old one is of no use, whoever uses it.
        assert kept.is_closed()


@pytest.mark.parametrize("timelines", [(1, 2), (2, 1)])
async def test_of_two_that_take_writes_the_one_promoted_last_is_it(
    heard: HeardOfWriters, timelines: Sequence[int]
) -> None:
    """That one may be the later to answer."""
    servers = [ScriptedServer(timeline=timeline, slow_s=0.05 * (timeline - 1)) for timeline in timelines]
    async with scripted(*servers), connecting(config_for(*servers), heard, grace_s=5.0) as connector:
        newest = max(servers, key=lambda server: server.timeline or 0)
        assert await port_of(await connector.connect()) == newest.port


async def test_an_old_primary_that_comes_back_is_refused_for_good(heard: HeardOfWriters) -> None:
    old, new = ScriptedServer(), ScriptedServer(timeline=2)
    async with scripted(old, new), connecting(config_for(old, new), heard, grace_s=5.0) as connector:
        await port_of(await connector.connect())
        new.sqlstate = "57P03"
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await connector.connect()
        assert heard.fences == [(old.writer, 2)]
        assert "NotTheWriterError: its timeline 1 is older than 2" in (connector.trouble or "")
        new.sqlstate, new.timeline = None, 3
        assert await port_of(await connector.connect()) == new.port


async def test_a_proxy_that_leads_to_an_old_primary_is_asked_again(heard: HeardOfWriters) -> None:
    proxy = ScriptedServer(timeline=2)
    async with scripted(proxy), connecting(config_for(proxy), heard) as connector:
        await port_of(await connector.connect())
        proxy.timeline = 1
        connecting_again = asyncio.create_task(connector.connect())
        await until(lambda: proxy.asked > 3)
        proxy.timeline = 3
        assert await port_of(await connecting_again) == proxy.port
        assert [after.timeline for _, after in heard.changes] == [2, 3]


async def test_a_server_that_does_not_tell_its_timeline_is_used_all_the_same(heard: HeardOfWriters) -> None:
    server = ScriptedServer(timeline=None)
    async with scripted(server), connecting(config_for(server), heard) as connector:
        assert await port_of(await connector.connect()) == server.port
        assert connector.writer == Writer("127.0.0.1", server.port, None)


async def test_many_who_wait_search_once(heard: HeardOfWriters) -> None:
    """However many wait, each host is asked by one at a time, with pauses in between."""
    hosts = [ScriptedServer(is_standby=True), ScriptedServer(sqlstate="57P03")]
    async with scripted(*hosts), connecting(config_for(*hosts), heard) as connector:
        waiting = [asyncio.create_task(connector.connect()) for _ in range(50)]
        await asyncio.sleep(1.0)
        assert all(host.most_at_once <= 2 for host in hosts)
        assert all(4 <= host.asked <= 41 for host in hosts)
        gaps = [after - before for before, after in zip(hosts[1].accepted, hosts[1].accepted[1:], strict=False)]
        assert min(gaps) > 0.02
        assert max(gaps) - min(gaps) > 0.005
        hosts[0].is_standby = False
        connections = await asyncio.gather(*waiting)
        assert len(set(map(id, connections))) == 50
        for connection in connections:
            connection.terminate()
        assert len(heard.changes) == 1


async def test_who_gives_up_leaves_the_search_to_others_and_the_last_one_ends_it(heard: HeardOfWriters) -> None:
    host = ScriptedServer(is_standby=True)
    async with scripted(host), connecting(config_for(host), heard) as connector:
        tasks_before = asyncio.all_tasks()
        first, second = (asyncio.create_task(connector.connect()) for _ in range(2))
        await until(lambda: host.asked > 1)
        first.cancel()
        asked = host.asked
        await until(lambda: host.asked > asked + 1)
        second.cancel()
        await asyncio.wait({first, second})
        assert first.cancelled()
        assert second.cancelled()
        await until(lambda: not host.open_sessions)
        assert {task for task in asyncio.all_tasks() - tasks_before if "answer" not in repr(task)} == set()


async def test_a_connection_that_was_found_for_nobody_is_ended(heard: HeardOfWriters) -> None:
    host = ScriptedServer(is_standby=True)
    async with scripted(host), connecting(config_for(host), heard) as connector:
        waiting = asyncio.create_task(connector.connect())
        await until(lambda: host.asked > 0)
        # In the turn of the loop in which it is found, who waited for it gives up.
        heard.then = waiting.cancel
        host.is_standby = False
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await until(lambda: not host.open_sessions)


async def test_a_search_goes_on_in_the_background_and_ends_by_itself(heard: HeardOfWriters) -> None:
    host = ScriptedServer(is_standby=True)
    async with scripted(host), connecting(config_for(host), heard) as connector:
        connector.look_around(30.0)
        await until(lambda: host.asked > 2)
        host.is_standby = False
        await until(lambda: connector.writer is not None)
        await until(lambda: not host.open_sessions)
        assert connector.writer == host.writer


async def test_looking_around_ends_with_its_time(heard: HeardOfWriters) -> None:
    host = ScriptedServer(is_standby=True)
    async with scripted(host), connecting(config_for(host), heard) as connector:
        connector.look_around(0.1)
        connector.look_around(0.1, no_sooner_than_s=1.0)
        await until(lambda: host.asked > 0)
        assert connector._looking is not None
        await asyncio.wait({connector._looking}, timeout=5)
        assert connector._looking.done()
        assert connector.writer is None


async def test_it_is_told_once_that_none_is_found_and_once_that_it_is_back(heard: HeardOfWriters) -> None:
    now = [1000.0]
    host = ScriptedServer()
    async with scripted(host), connecting(config_for(host), heard, clock=lambda: now[0]) as connector:
        await port_of(await connector.connect())
        host.sqlstate = "57P03"
        again = asyncio.create_task(connector.connect())
        await until(lambda: host.asked > 3)
        assert heard.losses == []
        now[0] += 7.0
        asked = host.asked
        await until(lambda: host.asked > asked + 3)
        assert heard.losses == ["CannotConnectNowError: scripted"]
        assert connector.lost_for_s == 7.0
        host.sqlstate = None
        await port_of(await again)
        assert heard.returns == [host.writer]
        assert heard.outages_s == [0.0, 7.0]
        assert connector.lost_for_s == 0.0


@pytest.mark.parametrize(
    ("sqlstate", "error"), [("28P01", asyncpg.InvalidPasswordError), ("3D000", asyncpg.InvalidCatalogNameError)]
)
async def test_what_waiting_does_not_mend_is_said_at_once(
    heard: HeardOfWriters, sqlstate: str, error: type[Exception]
) -> None:
    hosts = [ScriptedServer(sqlstate=sqlstate), ScriptedServer(sqlstate=sqlstate)]
    async with scripted(*hosts), connecting(config_for(*hosts), heard) as connector:
        with pytest.raises(error):
            await connector.connect()
        assert [host.asked for host in hosts] <= [2, 2]


async def test_a_host_that_refuses_its_guests_does_not_keep_another_from_being_found(heard: HeardOfWriters) -> None:
    hosts = [ScriptedServer(sqlstate="28P01"), ScriptedServer(is_standby=True)]
    async with scripted(*hosts), connecting(config_for(*hosts), heard) as connector:
        waiting = asyncio.create_task(connector.connect())
        await until(lambda: hosts[1].asked > 3)
        hosts[1].is_standby = False
        assert await port_of(await waiting) == hosts[1].port


async def test_a_host_that_is_far_away_is_given_more_time(heard: HeardOfWriters) -> None:
    far = ScriptedServer(is_silent=True)
    async with scripted(far), connecting(config_for(far), heard, host_timeout_s=0.02) as connector:
        waiting = asyncio.create_task(connector.connect())
        await until(lambda: far.asked > 4)
        gaps = [after - before for before, after in zip(far.accepted, far.accepted[1:], strict=False)]
        assert gaps[3] > 0.16
        waiting.cancel()
        await asyncio.wait({waiting})


async def test_a_name_that_leads_elsewhere_is_followed(heard: HeardOfWriters, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = ScriptedServer(), ScriptedServer(timeline=2)
    where = [old]
    resolved = socket.getaddrinfo

    def resolve(host: str, port: int, *more: Any, **others: Any) -> Any:
        if host == "writer.example":
            return resolved("127.0.0.1", where[0].port, *more, **others)
        return resolved(host, port, *more, **others)

    async with scripted(old, new):
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        async with connecting(config_of(("writer.example", 5432)), heard) as connector:
            assert await port_of(await connector.connect()) == old.port
            where[0] = new
            assert await port_of(await connector.connect()) == new.port
            assert [after.timeline for _, after in heard.changes] == [1, 2]


async def test_the_wall_clock_may_jump(heard: HeardOfWriters, monkeypatch: pytest.MonkeyPatch) -> None:
    host = ScriptedServer(is_standby=True)
    async with scripted(host), connecting(config_for(host), heard) as connector:
        waiting = asyncio.create_task(connector.connect())
        await until(lambda: host.asked > 0)
        monkeypatch.setattr(time, "time", lambda: 0.0)
        asked = host.asked
        await until(lambda: host.asked > asked + 3)
        host.is_standby = False
        await port_of(await waiting)
        assert heard.outages_s[0] < 10.0


async def test_the_system_is_asked_to_notice_a_dead_connection(
    heard: HeardOfWriters, database: PostgresAddress
) -> None:
    config = PiccoloDBConfig(
        host=(database.host,),
        port=(database.port,),
        user=database.user,
        password=SecretStr(database.password),
        database=database.database,
    )
    async with connecting(config, heard) as connector:
        connection = await connector.connect()
        raw = connection._transport.get_extra_info("socket")
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000
        assert connector.writer == Writer(database.host, database.port, 1)
        await connection.close()


async def test_a_standby_is_never_the_writer(heard: HeardOfWriters) -> None:
    assert issubclass(NotTheWriterError, ConnectionError)
    host = ScriptedServer(is_standby=True)
    async with scripted(host), connecting(config_for(host), heard) as connector:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await connector.connect()
        assert connector.writer is None
        assert "TargetServerAttributeNotMatched" in (connector.trouble or "")


@pytest.mark.parametrize("sqlstate", ["53300", "57P03"])
@pytest.mark.parametrize("is_doubted", [False, True])
async def test_a_writer_that_lets_nobody_else_in_is_not_lost_while_connections_to_it_work(
    heard: HeardOfWriters, sqlstate: str, is_doubted: bool
) -> None:
    host = ScriptedServer()
    async with scripted(host), connecting(config_for(host), heard) as connector:
        kept = await connector.connect()
        host.sqlstate = sqlstate
        if is_doubted:
            connector.doubt()
        with pytest.raises(NoRoomError):
            async with asyncio.timeout(5):
                await connector.connect()
        asked = host.asked
        # Who comes next does not even ask.
        with pytest.raises(NoRoomError):
            await connector.connect()
        assert host.asked == asked
        assert connector.has_no_room
        assert (connector.is_refused, connector.lost_since, heard.losses) == (False, None, [])
        kept.terminate()
        assert not connector.has_no_room
        host.sqlstate = None
        await port_of(await connector.connect())


async def test_while_the_writer_lets_nobody_in_another_is_still_looked_for(heard: HeardOfWriters) -> None:
    old, new = ScriptedServer(), ScriptedServer(is_standby=True)
    async with scripted(old, new), connecting(config_for(old, new), heard) as connector:
        kept = await connector.connect()
        old.sqlstate = "57P03"
        connector.look_around(5.0)
        await until(lambda: old.asked > 3)
        new.is_standby, new.timeline = False, 2
        await until(lambda: connector.writer == new.writer)
        assert kept.is_closed()


async def test_who_is_cancelled_as_a_connection_is_found_loses_none(heard: HeardOfWriters) -> None:
    """In whichever turn of the loop that happens."""
    host = ScriptedServer()
    async with scripted(host):
        for turns in range(8):
            async with connecting(config_for(host), HeardOfWriters()) as connector:
                waiting = asyncio.create_task(connector.connect())
                await until(lambda: connector._search is not None)
                search = connector._search
                assert search is not None
                await asyncio.wait({search._task})
                for _ in range(turns):
                    await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait({waiting})
                if not waiting.cancelled():
                    waiting.result().terminate()
                await until(lambda: not host.open_sessions)


async def test_a_promotion_elsewhere_is_found_while_the_old_connections_answer(heard: HeardOfWriters) -> None:
    old, new = ScriptedServer(), ScriptedServer(is_standby=True)
    now = [1000.0]
    async with (
        scripted(old, new),
        connecting(config_for(old, new), heard, clock=lambda: now[0]) as connector,
    ):
        kept = await connector.connect()
        new.is_standby, new.timeline = False, 2
        connector.look_around_now_and_then()
        await until(kept.is_closed)
        assert connector.writer == new.writer
        asked = new.asked
        connector.look_around_now_and_then()
        assert connector._looking is not None
        await asyncio.wait({connector._looking})
        assert new.asked == asked
        now[0] += 5.0
        connector.look_around_now_and_then()
        await until(lambda: new.asked > asked)


async def test_where_there_is_one_host_nobody_looks_for_another(heard: HeardOfWriters) -> None:
    host = ScriptedServer()
    async with scripted(host), connecting(config_for(host), heard) as connector:
        connector.look_around_now_and_then()
        assert connector._looking is None


async def test_two_addresses_of_one_server_are_no_two_writers(heard: HeardOfWriters) -> None:
    """Whichever is the first to answer, also where the other takes its time."""
    one, other = ScriptedServer(), ScriptedServer(slow_s=0.02)
    async with scripted(one, other), connecting(config_for(one, other), heard) as connector:
        kept = await connector.connect()
        for slow_s in (0.0, 0.02, 0.15):
            one.slow_s, other.slow_s = slow_s, 0.0
            connector.doubt()
            await port_of(await connector.connect())
        assert len(heard.changes) == 1
        assert not kept.is_closed()
        kept.terminate()


async def test_who_does_not_answer_in_time_has_not_refused(heard: HeardOfWriters) -> None:
    standby, silent = ScriptedServer(is_standby=True), ScriptedServer(is_silent=True)
    async with (
        scripted(standby, silent),
        connecting(config_for(standby, silent), heard, host_timeout_s=0.02) as connector,
    ):
        waiting = asyncio.create_task(connector.connect())
        told: list[bool] = []
        with connector.telling(lambda: told.append(connector.is_refused)):
            await until(lambda: silent.asked > 2)
        assert told == []
        silent.is_silent, silent.is_standby = False, True
        await until(lambda: connector.is_refused)
        waiting.cancel()
        await asyncio.wait({waiting})
