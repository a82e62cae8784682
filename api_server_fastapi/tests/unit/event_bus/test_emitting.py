"""Emitting: every handler of the event runs, at the same time as the others, whatever becomes of them."""

import asyncio
import contextvars
import logging
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from api_server.event_bus import BaseEvent, EventBus, Handler


class OrderCreated(BaseEvent):
    order_id: str


class OrderPaid(OrderCreated):
    amount: int = 0


class Other(BaseEvent):
    pass


ORDER = OrderCreated(order_id="a secret number")
NAME = __name__


class Collects:
    def __init__(self) -> None:
        self.events: list[BaseEvent] = []

    async def handle(self, event: BaseEvent) -> None:
        self.events.append(event)


def bus_of(*handlers: Handler) -> EventBus:
    bus = EventBus()
    for handler in handlers:
        bus.register(OrderCreated, handler)
    return bus


async def test_the_snippets_of_the_design_run_as_they_stand() -> None:
    handled: list[str] = []

    async def handle_order_created(event: Any) -> None:
        handled.append(event.order_id)

    namespace: dict[str, Any] = {
        "BaseEvent": BaseEvent,
        "event_bus": EventBus(),
        "handle_order_created": handle_order_created,
    }
    exec(SNIPPET, namespace)
    await namespace["emit"]()
    assert handled == ["123"]


SNIPPET = """
# Define event
class OrderCreated(BaseEvent):
    order_id: str

# Register handler (function or class)
event_bus.register(OrderCreated, handle_order_created)

# Emit
async def emit():
    await event_bus.emit(OrderCreated(order_id="123"))
"""


def test_neither_making_a_bus_nor_registering_needs_an_event_loop() -> None:
    collects = Collects()
    bus = bus_of(collects)
    asyncio.run(bus.emit(ORDER))
    assert collects.events == [ORDER]


async def test_handlers_of_the_event_s_class_and_of_its_bases_run_and_no_others() -> None:
    of_all, of_created, of_paid, of_other = (Collects() for _ in range(4))
    bus = EventBus()
    for event_type, handler in (
        (BaseEvent, of_all),
        (OrderCreated, of_created),
        (OrderPaid, of_paid),
        (Other, of_other),
    ):
        bus.register(event_type, handler)
    await bus.emit(paid := OrderPaid(order_id="1"))
    await bus.emit(ORDER)
    assert of_all.events == of_created.events == [paid, ORDER]
    assert of_paid.events == [paid]
    assert of_other.events == []


async def test_a_handler_of_several_classes_runs_once_for_each_event() -> None:
    collects = Collects()
    bus = EventBus()
    for event_type in (BaseEvent, OrderCreated, OrderPaid):
        bus.register(event_type, collects)
    await bus.emit(OrderPaid(order_id="1"))
    assert len(collects.events) == 1


async def test_handlers_run_at_the_same_time() -> None:
    meeting = asyncio.Barrier(3)

    async def first(event: OrderCreated) -> None:
        await meeting.wait()

    async def second(event: OrderCreated) -> None:
        await meeting.wait()

    async def third(event: OrderCreated) -> None:
        await meeting.wait()

    async with asyncio.timeout(5):
        await bus_of(first, second, third).emit(ORDER, raises=True)


async def test_emit_returns_when_all_have_finished() -> None:
    may_end = asyncio.Event()

    async def slow(event: OrderCreated) -> None:
        await may_end.wait()

    emitting = asyncio.create_task(bus_of(slow, Collects()).emit(ORDER))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not emitting.done()
    may_end.set()
    await emitting


async def test_an_event_may_have_values_that_cannot_be_hashed() -> None:
    class Listed(BaseEvent):
        lines: list[str]

    collects = Collects()
    bus = EventBus()
    bus.register(Listed, collects)
    await bus.emit(Listed(lines=["a"]), raises=True)
    assert collects.events == [Listed(lines=["a"])]


async def test_only_events_are_emitted() -> None:
    bus = bus_of(Collects())
    for wrong in (OrderCreated, "an order", None):
        with pytest.raises(TypeError, match=r"is no event: emit an instance of a class that is derived from BaseEvent"):
            await bus.emit(wrong)  # type: ignore[arg-type]  # what is tested


async def test_a_loop_that_emits_leaves_others_their_turn() -> None:
    """Nobody has to handle an event for that."""
    turns = 0

    async def takes_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(takes_turns())
    bus = EventBus()
    for _ in range(100):
        await bus.emit(Other())
    other.cancel()
    assert turns >= 100


async def test_a_handler_may_emit() -> None:
    collects = Collects()
    bus = EventBus()

    async def pays(event: OrderCreated) -> None:
        await bus.emit(Other())

    bus.register(OrderCreated, pays)
    bus.register(Other, collects)
    await bus.emit(ORDER, raises=True)
    assert collects.events == [Other()]


class TestFailures:
    @staticmethod
    async def fails(event: OrderCreated) -> None:
        raise ValueError("broken")

    @staticmethod
    def fails_in_a_thread(event: OrderCreated) -> None:
        raise LookupError("lost")

    async def test_a_failure_disturbs_nobody(self) -> None:
        before, after = Collects(), Collects()
        bus = bus_of(before, self.fails, self.fails_in_a_thread, after)
        await bus.emit(ORDER)
        assert before.events == after.events == [ORDER]

    async def test_failures_are_counted_by_handler(self) -> None:
        bus = bus_of(self.fails, self.fails_in_a_thread, Collects())
        assert bus.failures == {}
        await bus.emit(ORDER)
        await bus.emit(ORDER)
        name = f"{NAME}.TestFailures.fails"
        assert bus.failures == {name: 2, f"{name}_in_a_thread": 2}
        with pytest.raises(TypeError):
            bus.failures[name] = 0  # type: ignore[index]  # what is tested

    async def test_a_failure_is_logged_without_the_event_s_values(self, caplog: pytest.LogCaptureFixture) -> None:
        await bus_of(self.fails).emit(ORDER)
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("api_server.event_bus", logging.ERROR)
        assert record.getMessage() == f"{NAME}.TestFailures.fails failed on OrderCreated"
        assert record.exc_info is not None
        assert repr(record.exc_info[1]) == "ValueError('broken')"
        assert "secret" not in caplog.text

    async def test_whoever_wants_to_know_gets_all_failures(self) -> None:
        collects = Collects()
        bus = bus_of(self.fails, collects, self.fails_in_a_thread)
        with pytest.raises(ExceptionGroup, match="2 of 3 handlers of OrderCreated failed") as raised:
            await bus.emit(ORDER, raises=True)
        assert [repr(error) for error in raised.value.exceptions] == ["ValueError('broken')", "LookupError('lost')"]
        assert collects.events == [ORDER]
        assert sum(bus.failures.values()) == 2

    @pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), StopIteration(1), BaseException("own")])
    async def test_a_handler_that_exits_ends_nothing(self, error: BaseException) -> None:
        async def exits(event: OrderCreated) -> None:
            raise error

        def exits_in_a_thread(event: OrderCreated) -> None:
            raise error

        collects = Collects()
        bus = bus_of(exits, exits_in_a_thread, collects)
        with pytest.raises(ExceptionGroup) as raised:
            await bus.emit(ORDER, raises=True)
        assert len(raised.value.exceptions) == 2
        assert len(bus.failures) == 2
        assert collects.events == [ORDER]

    async def test_a_service_that_cannot_be_had_is_the_handler_s_failure(self) -> None:
        class Broken:
            def get(self, service_type: type[Any]) -> Any:
                raise ConnectionError("no database")

            def __contains__(self, service_type: type) -> bool:
                return True

        async def needs(event: OrderCreated, service: Collects) -> None: ...

        class Needs:
            def __init__(self, service: Collects) -> None: ...

            async def handle(self, event: OrderCreated) -> None: ...

        collects = Collects()
        bus = EventBus(Broken())
        for handler in (needs, Needs, collects):
            bus.register(OrderCreated, handler)
        with pytest.raises(ExceptionGroup) as raised:
            await bus.emit(ORDER, raises=True)
        assert [type(error) for error in raised.value.exceptions] == [ConnectionError, ConnectionError]
        assert collects.events == [ORDER]

    async def test_how_failures_are_reported_can_be_replaced(self, caplog: pytest.LogCaptureFixture) -> None:
        reported: list[tuple[BaseEvent, str, BaseException]] = []

        class Reporting(EventBus):
            def failed(self, event: BaseEvent, handler_name: str, error: BaseException) -> None:
                reported.append((event, handler_name, error))

        bus = Reporting()
        bus.register(OrderCreated, self.fails)
        await bus.emit(ORDER)
        ((event, name, error),) = reported
        assert (event, name, repr(error)) == (ORDER, f"{NAME}.TestFailures.fails", "ValueError('broken')")
        assert bus.failures == {name: 1}
        assert caplog.records == []

    async def test_a_report_that_fails_disturbs_nobody_either(self, caplog: pytest.LogCaptureFixture) -> None:
        class Broken(EventBus):
            def failed(self, event: BaseEvent, handler_name: str, error: BaseException) -> None:
                raise RuntimeError("no report")

        bus = Broken()
        bus.register(OrderCreated, self.fails)
        await bus.emit(ORDER)
        assert bus.failures == {f"{NAME}.TestFailures.fails": 1}
        assert "could not be reported" in caplog.text


class TestPlainHandlers:
    async def test_they_do_not_hold_the_loop(self) -> None:
        """Each waits for what only the event loop can do."""
        loop = asyncio.get_running_loop()
        threads: list[threading.Thread] = []

        def blocks(event: OrderCreated) -> None:
            threads.append(threading.current_thread())
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(5)

        await bus_of(blocks).emit(ORDER, raises=True)
        assert threads[0] is not threading.current_thread()
        assert threads[0].daemon

    async def test_they_leave_the_loop_s_executor_alone(self) -> None:
        released = threading.Event()

        def hangs(event: OrderCreated) -> None:
            released.wait(5)

        bus = bus_of(hangs)
        emitting = asyncio.gather(*(bus.emit(ORDER) for _ in range(100)))
        await asyncio.wait_for(asyncio.to_thread(lambda: None), 5)
        assert not emitting.done()
        released.set()
        await emitting

    async def test_a_burst_starts_few_threads(self) -> None:
        lock = threading.Lock()
        running, most, handled = 0, 0, 0

        def counts(event: OrderCreated) -> None:
            nonlocal running, most, handled
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.002)
            with lock:
                running -= 1
                handled += 1

        bus = bus_of(counts)
        await asyncio.gather(*(bus.emit(ORDER) for _ in range(200)))
        assert handled == 200
        assert 2 <= most <= 16


VISITOR: contextvars.ContextVar[str] = contextvars.ContextVar("visitor")


async def test_handlers_are_in_the_context_of_whoever_emits() -> None:
    seen: list[str] = []

    async def awaited(event: OrderCreated) -> None:
        seen.append(VISITOR.get())
        VISITOR.set("changed by a handler")

    def plain(event: OrderCreated) -> None:
        seen.append(VISITOR.get())

    bus = bus_of(awaited, plain)
    VISITOR.set("ada")
    await bus.emit(ORDER, raises=True)
    assert seen == ["ada", "ada"]
    assert VISITOR.get() == "ada"


async def test_whoever_gives_up_waiting_ends_no_handler() -> None:
    may_end = asyncio.Event()
    handled: list[BaseEvent] = []

    async def slow(event: OrderCreated) -> None:
        await may_end.wait()
        handled.append(event)

    bus = bus_of(slow)
    emitting = asyncio.create_task(bus.emit(ORDER))
    await asyncio.sleep(0)
    emitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await emitting
    may_end.set()
    await bus.aclose()
    assert handled == [ORDER]
    assert bus.failures == {}


async def test_a_bus_is_used_in_one_event_loop() -> None:
    collects = Collects()
    bus = bus_of(collects)
    await bus.emit(ORDER)

    def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="used in another event loop"):
            asyncio.run(bus.emit(ORDER))
        asyncio.run_coroutine_threadsafe(bus.emit(ORDER), loop).result(5)

    loop = asyncio.get_running_loop()
    await asyncio.to_thread(elsewhere)
    assert collects.events == [ORDER, ORDER]


def test_a_plain_handler_that_hangs_does_not_keep_the_process_from_ending() -> None:
    code = """
import asyncio, threading
from api_server.event_bus import BaseEvent, EventBus

def hangs(event):
    threading.Event().wait()

async def main():
    bus = EventBus()
    bus.register(BaseEvent, hangs)
    emitting = asyncio.create_task(bus.emit(BaseEvent()))
    await asyncio.sleep(0.01)
    await bus.aclose(0.01)
    await emitting

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=10)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "__main__.hangs goes on in its thread with BaseEvent unhandled\n"


def test_it_loads_the_standard_library_only() -> None:
    code = "import sys; at_first = set(sys.modules); import api_server.event_bus"
    show = "print(*set(sys.modules) - at_first)"
    done = subprocess.run([sys.executable, "-c", f"{code}; {show}"], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded - set(sys.stdlib_module_names) == {"api_server"}
