"""Closing: nothing begins any more, what runs has its time, and nothing holds up whoever closes."""

import asyncio
import logging
import subprocess
import sys
import threading
import time

import pytest
from api_server.event_bus import BaseEvent, EventBus, EventBusClosedError, Handler

# More than a handler that is cancelled is given to end; far less than what is tested against.
SMALL_S = 1.0


class Ticked(BaseEvent):
    pass


class Hangs:
    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.ended = ""

    async def handle(self, event: Ticked) -> None:
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        self.ended = "well"


class Stubborn(Hangs):
    """Does not let itself be cancelled."""

    async def handle(self, event: Ticked) -> None:
        while not self.may_end.is_set():
            try:
                await self.may_end.wait()
            except asyncio.CancelledError:
                continue
        self.ended = "well"


async def at_work(bus: EventBus, handler: Handler) -> "asyncio.Task[None]":
    """Let a handler begin with an event, and return who waits for it."""
    bus.register(Ticked, handler)
    emitting = asyncio.create_task(bus.emit(Ticked()))
    for _ in range(5):
        await asyncio.sleep(0)
    return emitting


async def test_afterwards_nothing_is_taken() -> None:
    bus = EventBus()
    async with bus as same:
        assert same is bus
    for refused in (lambda: bus.register(Ticked, Hangs()), lambda: bus.stream(Ticked)):
        with pytest.raises(EventBusClosedError, match="the event bus is closed"):
            refused()
    with pytest.raises(EventBusClosedError, match="the event bus is closed"):
        await bus.emit(Ticked())


async def test_what_runs_has_its_time(caplog: pytest.LogCaptureFixture) -> None:
    bus, hangs = EventBus(), Hangs()
    emitting = await at_work(bus, hangs)
    closing = asyncio.create_task(bus.aclose())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not closing.done()
    with pytest.raises(EventBusClosedError):
        await bus.emit(Ticked())
    hangs.may_end.set()
    await asyncio.wait_for(closing, SMALL_S)
    assert hangs.ended == "well"
    await emitting
    assert caplog.records == []


async def test_a_handler_that_takes_longer_is_cancelled_which_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    bus, hangs = EventBus(), Hangs()
    emitting = await at_work(bus, hangs)
    began = time.monotonic()
    await bus.aclose(0.05)
    assert 0.05 <= time.monotonic() - began < SMALL_S
    assert hangs.ended == "cancelled"
    assert bus.failures == {}
    await emitting
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("api_server.event_bus", logging.WARNING)
    assert record.getMessage() == f"{__name__}.Hangs was cancelled with Ticked unhandled"


async def test_whoever_wants_to_know_of_failures_hears_of_a_cancelled_handler() -> None:
    bus, hangs = EventBus(), Hangs()
    bus.register(Ticked, hangs)
    emitting = asyncio.create_task(bus.emit(Ticked(), raises=True))
    await asyncio.sleep(0)
    await bus.aclose(0)
    with pytest.raises(ExceptionGroup) as raised:
        await emitting
    (error,) = raised.value.exceptions
    assert isinstance(error, EventBusClosedError)
    assert str(error) == f"{__name__}.Hangs did not end before the event bus was closed"


async def test_a_handler_that_fails_when_it_is_cancelled_has_failed() -> None:
    async def breaks(event: Ticked) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("in its cleaning up")

    bus = EventBus()
    emitting = await at_work(bus, breaks)
    await bus.aclose(0)
    await emitting
    assert list(bus.failures.values()) == [1]


async def test_a_handler_that_does_not_let_itself_be_cancelled_holds_nobody(caplog: pytest.LogCaptureFixture) -> None:
    bus, stubborn = EventBus(), Stubborn()
    emitting = await at_work(bus, stubborn)
    (run,) = bus._runs
    began = time.monotonic()
    await bus.aclose(0.01)
    await asyncio.wait_for(emitting, SMALL_S)
    assert time.monotonic() - began < SMALL_S
    (record,) = caplog.records
    assert record.getMessage() == f"{__name__}.Stubborn does not end, and is left behind with Ticked"
    assert run.task not in asyncio.all_tasks()
    stubborn.may_end.set()
    await run.task


async def test_nor_does_a_plain_one_that_hangs_in_its_thread(caplog: pytest.LogCaptureFixture) -> None:
    released, ended = threading.Event(), threading.Event()

    def hangs_in_its_thread(event: Ticked) -> None:
        released.wait(5)
        ended.set()

    bus = EventBus()
    emitting = await at_work(bus, hangs_in_its_thread)
    began = time.monotonic()
    await bus.aclose(0.01)
    await asyncio.wait_for(emitting, SMALL_S)
    assert time.monotonic() - began < SMALL_S
    assert not ended.is_set()
    (record,) = caplog.records
    assert record.getMessage().endswith(".hangs_in_its_thread goes on in its thread with Ticked unhandled")
    released.set()
    await asyncio.to_thread(ended.wait, 5)


def test_what_is_left_behind_does_not_keep_the_loop_from_closing() -> None:
    """Whoever closes a loop waits for every task that it knows."""
    code = """
import asyncio
from api_server.event_bus import BaseEvent, EventBus

async def for_ever(event):
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

async def main():
    bus = EventBus()
    bus.register(BaseEvent, for_ever)
    emitting = asyncio.create_task(bus.emit(BaseEvent()))
    await asyncio.sleep(0)
    await bus.aclose(0.01)
    await emitting

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=10)
    assert done.returncode == 0
    assert done.stderr == "__main__.for_ever does not end, and is left behind with BaseEvent\n"


async def test_what_nobody_waits_for_any_more_is_waited_for() -> None:
    bus, hangs = EventBus(), Hangs()
    emitting = await at_work(bus, hangs)
    emitting.cancel()
    asyncio.get_running_loop().call_later(0.01, hangs.may_end.set)
    await bus.aclose()
    assert hangs.ended == "well"


async def test_what_waits_for_a_thread_is_cancelled_with_the_others() -> None:
    released = threading.Event()
    begun: list[Ticked] = []

    def waits(event: Ticked) -> None:
        begun.append(event)
        released.wait(5)

    bus = EventBus()
    bus.register(Ticked, waits)
    emitting = asyncio.gather(*(bus.emit(Ticked()) for _ in range(20)))
    async with asyncio.timeout(5):
        while len(begun) < 16:
            await asyncio.sleep(0.001)
    await bus.aclose(0)
    await asyncio.wait_for(emitting, SMALL_S)
    released.set()
    assert len(begun) == 16
    assert bus.failures == {}


async def test_giving_up_closing_ends_what_runs() -> None:
    bus, hangs = EventBus(), Hangs()
    emitting = await at_work(bus, hangs)
    closing = asyncio.create_task(bus.aclose(60))
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await asyncio.wait_for(emitting, SMALL_S)
    assert hangs.ended == "cancelled"


async def test_closing_again_does_no_harm() -> None:
    bus, hangs = EventBus(), Hangs()
    emitting = await at_work(bus, hangs)
    await asyncio.gather(bus.aclose(0.01), bus.aclose(0.01))
    await bus.aclose()
    await emitting
    assert hangs.ended == "cancelled"


async def test_a_handler_may_close_the_bus() -> None:
    bus = EventBus()
    closed: list[Ticked] = []

    async def closes(event: Ticked) -> None:
        await bus.aclose(60)
        closed.append(event)

    bus.register(Ticked, closes)
    async with asyncio.timeout(5):
        await bus.emit(Ticked(), raises=True)
    assert len(closed) == 1


async def test_nothing_is_kept_of_events_that_are_over() -> None:
    bus, hangs = EventBus(), Hangs()
    hangs.may_end.set()
    bus.register(Ticked, hangs)
    for _ in range(10):
        await bus.emit(Ticked())
    await asyncio.sleep(0)
    assert bus._runs == set()
    await bus.aclose()
