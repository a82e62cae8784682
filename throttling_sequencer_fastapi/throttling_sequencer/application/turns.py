"""Work that takes long for an event loop, done a few milliseconds at a time."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from typing import TypeVar

T = TypeVar("T")

# The longest that whatever else the loop serves waits for its turn, unless a single item takes longer.
_TURN_S = 0.002


async def in_turns(items: Iterable[T]) -> AsyncGenerator[T, None]:
    """Pass on what an iterable computes; whenever that, and what is done with it, took 2 ms, others get a turn."""
    until = time.perf_counter() + _TURN_S
    for item in items:
        yield item
        if time.perf_counter() >= until:
            await asyncio.sleep(0)
            until = time.perf_counter() + _TURN_S
