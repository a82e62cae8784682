"""Streams: events for one who iterates, bounded, each after a turn of the event loop."""

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from api_server.event_bus import BaseEvent, EventBus, EventBusClosedError, EventStream, HandlerRefusedError
from api_server.graphql.live import live


class Ticked(BaseEvent):
    number: int


class LoudlyTicked(Ticked):
    pass


class Other(BaseEvent):
    pass


def tick(number: int) -> Ticked:
    return Ticked(number=number)


async def emit_all(bus: EventBus, *events: BaseEvent) -> None:
    for event in events:
        await bus.emit(event)


async def numbers(stream: AsyncGenerator[Ticked, None]) -> list[int]:
    return [event.number async for event in stream]


async def test_it_has_the_events_of_its_type_and_of_derived_ones_in_order() -> None:
    async with EventBus() as bus:
        stream = bus.stream(Ticked)
        await emit_all(bus, tick(1), Other(), LoudlyTicked(number=2), tick(3))
    assert await numbers(stream) == [1, 2, 3]


async def test_whoever_waits_gets_an_event_when_it_is_emitted() -> None:
    async with EventBus() as bus:
        stream = bus.stream(Ticked)
        for number in range(3):
            waiting = asyncio.ensure_future(anext(stream))
            for _ in range(5):
                await asyncio.sleep(0)
            assert not waiting.done()
            await bus.emit(tick(number))
            assert (await asyncio.wait_for(waiting, 1)).number == number


async def test_every_stream_has_every_event() -> None:
    async with EventBus() as bus:
        streams = [bus.stream(Ticked) for _ in range(3)]
        await emit_all(bus, tick(1), tick(2))
    assert [await numbers(stream) for stream in streams] == [[1, 2]] * 3


async def test_nothing_is_missed_between_the_call_and_the_first_iteration() -> None:
    async with EventBus() as bus:
        await bus.emit(tick(1))
        stream = bus.stream(Ticked)
        await bus.emit(tick(2))
        assert (await anext(stream)).number == 2


async def test_a_stream_does_not_wait_for_handlers() -> None:
    may_end = asyncio.Event()

    async def slow(event: Ticked) -> None:
        await may_end.wait()

    async with EventBus() as bus:
        bus.register(Ticked, slow)
        stream = bus.stream(Ticked)
        emitting = asyncio.create_task(bus.emit(tick(1)))
        assert (await asyncio.wait_for(anext(stream), 1)).number == 1
        assert not emitting.done()
        may_end.set()
        await emitting


async def test_at_capacity_the_oldest_is_dropped_and_counted() -> None:
    async with EventBus() as bus:
        stream, wide = bus.stream(Ticked, capacity=2), bus.stream(BaseEvent, capacity=5)
        await emit_all(bus, *map(tick, range(5)))
        assert (stream.dropped, wide.dropped) == (3, 0)
        assert bus.dropped == {"Ticked": 3}
    assert await numbers(stream) == [3, 4]


@pytest.mark.parametrize("capacity", [0, -1])
async def test_a_stream_keeps_something(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"at least one event, and not {capacity}"):
        EventBus().stream(Ticked, capacity=capacity)


async def test_only_events_are_streamed() -> None:
    with pytest.raises(HandlerRefusedError, match="no class derived from BaseEvent"):
        EventBus().stream(int)  # type: ignore[type-var]  # what is tested


def test_a_stream_needs_an_event_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        EventBus().stream(Ticked)


async def test_every_event_is_given_after_a_turn_of_the_loop() -> None:
    turns = 0

    async def takes_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with EventBus() as bus:
        stream = bus.stream(Ticked)
        await emit_all(bus, *map(tick, range(50)))
    other = asyncio.create_task(takes_turns())
    await numbers(stream)
    other.cancel()
    assert turns >= 50


async def test_it_ends_when_the_bus_is_closed() -> None:
    async with EventBus() as bus:
        waiting = asyncio.create_task(numbers(bus.stream(Ticked)))
        await asyncio.sleep(0)
        await bus.emit(tick(1))
    assert await asyncio.wait_for(waiting, 1) == [1]
    with pytest.raises(EventBusClosedError):
        bus.stream(Ticked)


@pytest.mark.parametrize("has_begun", [False, True])
async def test_closing_it_unsubscribes(has_begun: bool) -> None:
    async with EventBus() as bus:
        stream = bus.stream(Ticked, capacity=1)
        if has_begun:
            await bus.emit(tick(0))
            await anext(stream)
        await bus.emit(tick(1))
        await stream.aclose()
        await emit_all(bus, tick(2), tick(3))
        assert stream.dropped == 0
        assert list(bus._streams._all) == []
        assert await numbers(stream) == []


async def test_closing_it_ends_the_wait_of_somebody_else() -> None:
    async with EventBus() as bus:
        stream = bus.stream(Ticked)
        waiting = asyncio.create_task(numbers(stream))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await stream.aclose()
        assert await asyncio.wait_for(waiting, 1) == []


async def test_what_is_thrown_into_it_closes_it() -> None:
    async with EventBus() as bus:
        for thrown in (ValueError("thrown"), ValueError):
            stream = bus.stream(Ticked)
            with pytest.raises(ValueError):  # noqa: PT011 - one of them has no text
                await stream.athrow(thrown)
            assert await numbers(stream) == []


async def test_one_that_nobody_iterates_or_closes_is_forgotten() -> None:
    async with EventBus() as bus:
        stream = bus.stream(Ticked)
        event = tick(1)
        await bus.emit(event)
        # An event has no slots, and can be referred to weakly.
        forgotten = weakref.ref(stream), weakref.ref(event)
        del stream, event
        gc.collect()
        assert [reference() for reference in forgotten] == [None, None]


async def test_leaving_the_iteration_is_enough() -> None:
    async def first(bus: EventBus) -> int:
        async for event in bus.stream(Ticked):
            return event.number
        return -1

    async with EventBus() as bus:
        waiting = asyncio.create_task(first(bus))
        await asyncio.sleep(0)
        await bus.emit(tick(1))
        assert await asyncio.wait_for(waiting, 1) == 1
        gc.collect()
        assert list(bus._streams._all) == []


async def test_one_that_somebody_waits_for_is_not() -> None:
    """An event loop refers weakly to its tasks, and who started this one forgot it."""
    got: list[int] = []

    async def watch(stream: AsyncGenerator[Ticked, None]) -> None:
        got.extend([event.number async for event in stream])

    async with EventBus() as bus:
        asyncio.create_task(watch(bus.stream(Ticked)))  # noqa: RUF006 - that is what is forgotten
        for _ in range(5):
            await asyncio.sleep(0)
        gc.collect()
        await bus.emit(tick(1))
    for _ in range(5):
        await asyncio.sleep(0)
    assert got == [1]


async def test_a_wait_that_is_given_up_loses_nothing() -> None:
    async with EventBus() as bus:
        stream = bus.stream(Ticked)
        for turns in range(5):
            waiting = asyncio.ensure_future(anext(stream))
            for _ in range(turns):
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        stream.offer(tick(1))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await asyncio.wait_for(anext(stream), 1)).number == 1


async def test_two_cannot_wait_at_once() -> None:
    async with EventBus() as bus:
        stream = bus.stream(Ticked)
        waiting = asyncio.create_task(numbers(stream))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="somebody else waits"):
            await anext(stream)
    assert await waiting == []


async def test_a_subscription_passes_it_on() -> None:
    async with EventBus() as bus:
        stream: EventStream[Ticked] = bus.stream(Ticked)
        async with aclosing(live(stream)) as source:
            waiting = asyncio.ensure_future(anext(source))
            await asyncio.sleep(0)
            await bus.emit(tick(1))
            assert (await asyncio.wait_for(waiting, 1)).number == 1
        assert stream.has_ended
