"""Lets operations begin one after the other where each of them takes long, so that what else is asked comes between."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, cast

from strawberry.extensions import SchemaExtension

from api_server.graphql.context import GraphQLContext

if TYPE_CHECKING:
    from api_server.graphql.schema import CodedErrorSchema

# What operations that begin in one turn of the event loop may take of it, before the next has to wait.
_TURN_S = 0.005


class Turns:
    """The turns of the event loop, of which operations that begin may take some milliseconds each.

    Parsing, validation and an introspection never give way: thousands that were asked at once would be answered in one
    turn. Beyond its milliseconds one operation begins in each turn, principals in rotation.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._begun_at: float | None = None

    async def take(self, principal: str) -> None:
        """Wait for a turn, if others have used up this one."""
        now = time.perf_counter()
        if self._begun_at is None:
            self._begun_at = now
            asyncio.get_running_loop().call_soon(self._end_turn)
        elif self._waiting or now - self._begun_at > _TURN_S:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(principal, deque()).append(turn)
            await turn

    def _end_turn(self) -> None:
        self._begun_at = None
        while self._waiting and self._begun_at is None:
            principal, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[principal] = turns
            if not turn.done():
                turn.set_result(None)
                self._begun_at = time.perf_counter()
                asyncio.get_running_loop().call_soon(self._end_turn)


class InTurn(SchemaExtension):
    """Has each operation begin in its turn.

    One that is stopped while it waits is parsed nevertheless, so that whoever records it knows its name.
    """

    async def on_parse(self) -> AsyncIterator[None]:
        context: GraphQLContext = self.execution_context.context
        principal = context.principal.user_id if context.principal is not None else ""
        stopped: asyncio.CancelledError | None = None
        try:
            await cast("CodedErrorSchema", self.execution_context.schema).turns.take(principal)
        except asyncio.CancelledError as error:
            # Raised here, before all others are there, it would not be told to them.
            stopped = error
        yield
        if stopped is not None:
            raise stopped
