"""The one helper that every subscription passes: bounded, in order, never holding the event loop, closed at the end."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable

import pytest
from api_server.graphql.live import ClientTooSlowError, Overflow, live


class Source:
    """Items that are there at once, and whether the source was closed."""

    def __init__(self, items: Iterable[int], error: Exception | None = None) -> None:
        self.made = 0
        self.is_closed = False
        self._items = items
        self._error = error

    async def __call__(self) -> AsyncGenerator[int, None]:
        try:
            for item in self._items:
                self.made += 1
                yield item
            if self._error:
                raise self._error
        finally:
            self.is_closed = True


def for_ever() -> Iterable[int]:
    number = 0
    while True:
        yield number
        number += 1


async def listed(items: AsyncIterator[int]) -> list[int]:
    return [item async for item in items]


@pytest.mark.parametrize("number", [0, 1, 64, 65, 1000])
async def test_a_client_that_keeps_up_gets_every_item_once_and_in_order(number: int) -> None:
    source = Source(range(number))
    assert await listed(live(source(), overflow=Overflow.CLOSE)) == list(range(number))
    assert source.is_closed


async def test_items_that_fall_due_are_passed_on_when_they_do() -> None:
    due = [asyncio.Event() for _ in range(3)]

    async def source() -> AsyncGenerator[int, None]:
        for number, event in enumerate(due):
            await event.wait()
            yield number

    stream = live(source())
    for number, event in enumerate(due):
        asyncio.get_running_loop().call_soon(event.set)
        assert await asyncio.wait_for(anext(stream), 1) == number
    assert await listed(stream) == []


@pytest.mark.parametrize("overflow", Overflow)
async def test_a_source_that_never_waits_starves_nobody(overflow: Overflow) -> None:
    taken = 0

    async def take() -> None:
        nonlocal taken
        async for _ in live(Source(for_ever())(), overflow=overflow):
            taken += 1

    taking = asyncio.create_task(take())
    for _ in range(1000):
        await asyncio.sleep(0)
    assert 0 < taken <= 1000
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking


async def test_of_states_a_slow_client_gets_the_newest() -> None:
    made = asyncio.Event()

    async def source() -> AsyncGenerator[int, None]:
        for number in range(100):
            yield number
        made.set()

    stream = live(source(), overflow=Overflow.LATEST, capacity=3)
    assert await anext(stream) == 0
    await asyncio.wait_for(made.wait(), 1)
    assert await listed(stream) == [97, 98, 99]


async def test_where_each_item_counts_the_source_waits_for_a_slow_client() -> None:
    source = Source(range(100))
    stream = live(source(), overflow=Overflow.CLOSE, capacity=3)
    assert await anext(stream) == 0
    for _ in range(50):
        await asyncio.sleep(0)
    assert source.made == 4  # one taken, two that wait, one in the source's hand until there is room for several
    assert await listed(stream) == list(range(1, 100))


async def test_a_client_that_takes_nothing_is_given_up_and_what_it_kept_busy_is_closed() -> None:
    source = Source(for_ever())
    stream = live(source(), overflow=Overflow.CLOSE, capacity=3, patience=0.05)
    assert await anext(stream) == 0
    async with asyncio.timeout(1):
        while not source.is_closed:
            await asyncio.sleep(0.005)
    assert [await anext(stream) for _ in range(2)] == [1, 2]
    with pytest.raises(ClientTooSlowError, match=r"3 items waited for 0\.05 s"):
        await anext(stream)


async def test_a_client_that_takes_an_item_now_and_then_is_waited_for() -> None:
    stream = live(Source(range(20))(), overflow=Overflow.CLOSE, capacity=8, patience=0.05)
    taken = []
    async for item in stream:
        taken.append(item)
        await asyncio.sleep(0.03)
    assert taken == list(range(20))


async def test_what_a_source_raises_comes_after_what_it_gave() -> None:
    source = Source([1, 2], ValueError("no more"))
    stream = live(source())
    assert [await anext(stream), await anext(stream)] == [1, 2]
    with pytest.raises(ValueError, match="no more"):
        await anext(stream)


@pytest.mark.parametrize("taken", [1, 5])
async def test_closing_a_stream_closes_its_source_first(taken: int) -> None:
    source = Source(for_ever())
    stream = live(source())
    for _ in range(taken):
        await anext(stream)
    await stream.aclose()
    assert source.is_closed
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_cancelled_client_closes_a_source_that_waits() -> None:
    is_closed = False

    async def source() -> AsyncGenerator[int, None]:
        nonlocal is_closed
        try:
            await asyncio.Event().wait()
            yield 0
        finally:
            await asyncio.sleep(0)
            is_closed = True

    taking = asyncio.create_task(listed(live(source())))
    await asyncio.sleep(0.01)  # until it waits: there is nothing to await
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert is_closed
    assert asyncio.all_tasks() == {asyncio.current_task()}
