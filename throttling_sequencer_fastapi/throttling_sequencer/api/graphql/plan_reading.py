"""How many stored plans one GraphQL operation may read, whatever the number of its fields."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from throttling_sequencer.domain.errors import InvalidValueError

_MOST_PAGES = 4
_PLANS_OF_A_PAGE = 5


class PlanReading:
    """What is left to an operation: it reads one thing after the other, four pages or twenty plans at most.

    GraphQL runs the fields of a query at the same time, and encodes their answers in one piece: without a limit, one
    operation could take every connection of the pool, and the event loop.
    """

    def __init__(self) -> None:
        self._left = _MOST_PAGES * _PLANS_OF_A_PAGE
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def of_a_plan(self) -> AsyncIterator[None]:
        """Read one plan within the context. Raises InvalidValueError where nothing is left."""
        async with self._reading(1):
            yield

    @asynccontextmanager
    async def of_a_page(self) -> AsyncIterator[None]:
        """Read one page within the context. Raises InvalidValueError where less is left."""
        async with self._reading(_PLANS_OF_A_PAGE):
            yield

    @asynccontextmanager
    async def _reading(self, costs: int) -> AsyncIterator[None]:
        if self._left < costs:
            most = f"{_MOST_PAGES} pages of plans, or {_MOST_PAGES * _PLANS_OF_A_PAGE} plans"
            raise InvalidValueError("query", f"should read at most {most}")
        self._left -= costs
        async with self._turn:
            yield
