"""Long work that leaves the event loop its turns."""

import asyncio
import time
from collections.abc import Iterator

from throttling_sequencer.application.turns import in_turns


def busy(numbers: int, seconds: float) -> Iterator[int]:
    for number in range(numbers):
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass
        yield number


async def turns_during(numbers: int, seconds: float) -> int:
    async def collected() -> list[int]:
        return [number async for number in in_turns(busy(numbers, seconds))]

    work, turns = asyncio.create_task(collected()), 0
    while not work.done():
        turns += 1
        await asyncio.sleep(0)
    assert await work == list(range(numbers))
    return turns


async def test_others_get_a_turn_whenever_the_work_took_a_while() -> None:
    assert await turns_during(40, 0.002) >= 10


async def test_work_that_is_soon_done_gives_none_away() -> None:
    assert await turns_during(100, 0) <= 5
