"""Who is on a socket, and for whom there is room."""

import asyncio

import pytest
from api_server.graphql.open_sockets import (
    DRAINING,
    Ending,
    OpenSockets,
    ServerDrainingError,
    SocketLimits,
    SocketsFullError,
)
from api_server.identity import Principal

ADA = Principal("ada", frozenset())


class Stub:
    """A connection that knows how it ended."""

    protocol = "stub"
    running = 0

    def __init__(self) -> None:
        self.ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    async def end(self, ending: Ending) -> None:
        self.ending.set_result(ending)


async def test_a_socket_that_was_on_its_way_when_the_server_began_to_drain_is_ended() -> None:
    sockets, connection = OpenSockets(), Stub()
    sockets.check_room()
    await sockets.close()
    with sockets.holding(connection):
        async with asyncio.timeout(2):
            assert await connection.ending is DRAINING
    with pytest.raises(ServerDrainingError):
        sockets.check_room("ada")


async def test_who_is_known_beforehand_waits_beside_the_strangers_but_not_without_end() -> None:
    sockets = OpenSockets(SocketLimits(strangers=1, per_principal=2))
    first, second, third = Stub(), Stub(), Stub()
    with sockets.holding(first, "ada"):
        sockets.check_room()
        with sockets.holding(second, "ada"):
            sockets.check_room("ada")
            with sockets.holding(third, "ada"):
                for who in ("ada", None):
                    with pytest.raises(SocketsFullError):
                        sockets.check_room(who)
                sockets.check_room("bob")
                sockets.introduce(second, ADA)
                sockets.check_room("ada")
            sockets.check_room()
    with sockets.holding(Stub()), pytest.raises(SocketsFullError):
        sockets.check_room()
    sockets.check_room()
