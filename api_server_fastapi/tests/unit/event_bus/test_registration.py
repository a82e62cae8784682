"""What can handle an event, and what is refused, with the reason, before any event is emitted."""

import functools
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar
from unittest.mock import AsyncMock, Mock

import pytest
from api_server.event_bus import BaseEvent, EventBus, Handler, HandlerRefusedError, Services
from api_server.services.registry import ServiceRegistry

if TYPE_CHECKING:
    from somewhere import Unheard  # type: ignore[import-not-found]  # as a type checker may know more

T = TypeVar("T")


class OrderCreated(BaseEvent):
    order_id: str


class OrderPaid(OrderCreated):
    amount: int


class Other(BaseEvent):
    pass


class Clock:
    pass


class Mail:
    pass


class Marked(Protocol):
    marked: int


class Known:
    """Has one instance of each of some types, and notes who was asked for."""

    def __init__(self, *types: type) -> None:
        self.instances = {one: one() for one in types}
        self.asked: list[type] = []

    def get(self, service_type: type[T]) -> T:
        self.asked.append(service_type)
        instance: T = self.instances[service_type]
        return instance

    def __contains__(self, service_type: type) -> bool:
        return service_type in self.instances


CLOCKED = Known(Clock)
SEEN: list[tuple[Any, ...]] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    SEEN.clear()


async def with_clock(event: OrderCreated, clock: Clock) -> None:
    SEEN.append((event, clock))


def plain_with_clock(event: OrderCreated, clock: Clock) -> None:
    SEEN.append((event, clock))


async def by_name(event: "OrderCreated", *, clock: "Clock") -> "Unheard":
    SEEN.append((event, clock))


async def annotated(event: Annotated[OrderCreated, "news"], clock: "Annotated[Clock, 'the wall clock']") -> None:
    SEEN.append((event, clock))


async def optional(event: OrderCreated, clock: Clock | None = None) -> None:
    SEEN.append((event, clock))


async def plain_annotations(event, clock: Clock):  # type: ignore[no-untyped-def]  # noqa: ANN201, ANN001 - as some write
    SEEN.append((event, clock))


async def of_a_base(event: BaseEvent, clock: Clock) -> None:
    SEEN.append((event, clock))


async def of_several(event: Other | OrderCreated, clock: Clock) -> None:
    SEEN.append((event, clock))


async def with_prefix(prefix: str, event: OrderCreated, clock: Clock) -> None:
    SEEN.append((event, clock))


class Constructed:
    def __init__(self, clock: "Clock") -> None:
        self.clock = clock

    async def handle(self, event: OrderCreated) -> None:
        SEEN.append((event, self.clock))


class PlainConstructed(Constructed):
    def handle(self, event: OrderCreated) -> None:  # type: ignore[override]  # handlers may be plain, too
        SEEN.append((event, self.clock))


@dataclass
class AsDataclass:
    clock: "Clock"

    async def handle(self, event: OrderCreated) -> None:
        SEEN.append((event, self.clock))


class TakesMore:
    async def handle(self, event: OrderCreated, clock: Clock) -> None:
        SEEN.append((event, clock))


class Called:
    async def __call__(self, event: "OrderCreated", clock: "Clock") -> None:
        SEEN.append((event, clock))


class Static:
    @staticmethod
    async def handle(event: OrderCreated, clock: Clock) -> None:
        SEEN.append((event, clock))


class OfClass:
    @classmethod
    async def handle(cls, event: OrderCreated, clock: Clock) -> None:
        SEEN.append((event, clock))


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        return function(*arguments, **keywords)

    return wrapper


SUITABLE: list[Handler] = [
    with_clock,
    plain_with_clock,
    by_name,
    annotated,
    optional,
    plain_annotations,
    of_a_base,
    of_several,
    functools.partial(with_prefix, "x"),
    functools.partial(by_name),
    # Another module's function, around this one's.
    functools.singledispatch(by_name),
    logged(with_clock),
    Constructed,
    PlainConstructed,
    AsDataclass,
    TakesMore,
    TakesMore(),
    TakesMore().handle,
    Called(),
    Static,
    Static(),
    OfClass,
    OfClass(),
    lambda event, clock=None: with_clock(event, clock or CLOCKED.instances[Clock]),
]


@pytest.mark.parametrize("handler", SUITABLE, ids=str)
async def test_it_gets_the_event_and_its_services(handler: Handler) -> None:
    bus = EventBus(CLOCKED)
    bus.register(OrderCreated, handler)
    await bus.emit(OrderCreated(order_id="1"), raises=True)
    assert [(OrderCreated(order_id="1"), CLOCKED.instances[Clock])] == SEEN


async def test_the_registry_of_the_foundation_has_services() -> None:
    registry = ServiceRegistry()
    registry.register_singleton(Clock, Clock)
    services: Services = registry
    bus = EventBus(services)
    bus.register(OrderCreated, Constructed)
    await bus.emit(OrderCreated(order_id="1"), raises=True)
    assert SEEN[0][1] is registry.get(Clock)


async def test_services_are_asked_for_at_each_event() -> None:
    services = Known(Clock)
    bus = EventBus(services)
    bus.register(OrderCreated, with_clock)
    assert services.asked == []
    await bus.emit(OrderCreated(order_id="1"), raises=True)
    services.instances[Clock] = newer = Clock()
    await bus.emit(OrderCreated(order_id="2"), raises=True)
    assert services.asked == [Clock, Clock]
    assert SEEN[1][1] is newer


async def test_services_are_asked_for_in_the_event_loop_even_for_a_handler_in_a_thread() -> None:
    threads: list[threading.Thread] = []

    class Noting(Known):
        def get(self, service_type: type[T]) -> T:
            threads.append(threading.current_thread())
            return super().get(service_type)

    def handler(event: OrderCreated, clock: Clock) -> None:
        threads.append(threading.current_thread())

    bus = EventBus(Noting(Clock))
    bus.register(OrderCreated, handler)
    await bus.emit(OrderCreated(order_id="1"), raises=True)
    assert threads[0] is threading.current_thread()
    assert threads[1] is not threads[0]


async def test_a_class_is_made_anew_for_each_event() -> None:
    made: list[object] = []

    class Made:
        async def handle(self, event: OrderCreated) -> None:
            made.append(self)

    bus = EventBus()
    bus.register(OrderCreated, Made)
    for _ in range(2):
        await bus.emit(OrderCreated(order_id="1"), raises=True)
    assert made[0] is not made[1]


@pytest.mark.parametrize("services", [None, Known(), Known(Mail)])
async def test_what_is_not_registered_keeps_its_default(services: Known | None) -> None:
    def handler(event: OrderCreated, clock: Clock | None = None, count: int = 7, untyped=3) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        SEEN.append((clock, count, untyped))

    bus = EventBus(services)
    bus.register(OrderCreated, handler)
    await bus.emit(OrderCreated(order_id="1"), raises=True)
    assert SEEN == [(None, 7, 3)]


async def test_what_a_partial_has_is_not_replaced_by_a_service() -> None:
    own = Clock()
    bus = EventBus(Known(Clock))
    bus.register(OrderCreated, functools.partial(with_clock, clock=own))
    await bus.emit(OrderCreated(order_id="1"), raises=True)
    assert SEEN[0][1] is own


async def test_what_a_mock_makes_up_is_not_called() -> None:
    for mock in (AsyncMock(), Mock()):
        bus = EventBus()
        bus.register(OrderCreated, mock)
        await bus.emit(OrderCreated(order_id="1"), raises=True)
        mock.assert_called_once_with(OrderCreated(order_id="1"))


async def test_a_plain_function_may_return_what_is_to_be_awaited() -> None:
    bus = EventBus()
    bus.register(OrderCreated, lambda event: with_clock(event, Clock()))
    await bus.emit(OrderCreated(order_id="1"), raises=True)
    assert len(SEEN) == 1


async def no_services(event: OrderCreated) -> None: ...


class TakesEvents:
    async def handle(self, event: OrderCreated) -> None: ...


async def no_event() -> None: ...


async def only_keywords(*, event: OrderCreated) -> None: ...


async def of_another(event: Other) -> None: ...


async def of_a_derived(event: OrderPaid) -> None: ...


async def of_none_of_these(event: Other | OrderPaid) -> None: ...


async def service_first(clock: Clock, event: OrderCreated) -> None: ...


async def unannotated(event: OrderCreated, clock) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001 - what is wrong


async def with_mail(event: OrderCreated, mail: Mail) -> None: ...


async def unresolved(event: OrderCreated, service: "Unheard") -> None: ...


async def unresolved_event(event: "Unheard") -> None: ...


async def unreadable(event: OrderCreated, service: "not a type") -> None: ...  # type: ignore[valid-type]  # noqa: F722 - what is wrong


async def unknown(event: OrderCreated, service: "re.Unheard") -> None: ...  # type: ignore[name-defined]  # what is wrong


async def by_position(event: OrderCreated, clock: Clock, /) -> None: ...


async def generates(event: OrderCreated) -> AsyncGenerator[None, None]:
    yield


def generates_plainly(event: OrderCreated) -> Iterator[None]:
    yield


class CalledGenerates:
    async def __call__(self, event: OrderCreated) -> AsyncGenerator[None, None]:
        yield


class WithoutHandle:
    pass


class HandlesNothing:
    async def handle(self) -> None: ...


class HandleIsNoMethod:
    handle = 3


class WantsMail(HandlesNothing):
    def __init__(self, mail: Mail) -> None: ...

    async def handle(self, event: OrderCreated) -> None: ...  # type: ignore[override]  # what is wrong is above


class Abstract(ABC):
    @abstractmethod
    async def handle(self, event: OrderCreated) -> None: ...


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (no_event, "it takes no event, which is to be its first parameter"),
        (only_keywords, "it takes no event, which is to be its first parameter"),
        (HandlesNothing, "it takes no event, which is to be its first parameter"),
        (HandlesNothing(), "it takes no event, which is to be its first parameter"),
        (of_another, "its first parameter, event, is annotated with Other, and is to be the event"),
        (of_a_derived, "its first parameter, event, is annotated with OrderPaid, and is to be the event"),
        (of_none_of_these, "its first parameter, event, is annotated with "),
        (service_first, "its first parameter, clock, is annotated with Clock, and is to be the event"),
        (unannotated, "its parameter clock has no annotation that says which service it takes"),
        (with_mail, "its parameter mail takes Mail, which is not registered as a service"),
        (WantsMail, "its parameter mail takes Mail, which is not registered as a service"),
        (unresolved, "the annotation of its parameter service is not understood: name 'Unheard' is not defined"),
        (unresolved_event, "the annotation of its parameter event is not understood: name 'Unheard' is not defined"),
        (unreadable, "the annotation of its parameter service is not understood: "),
        (unknown, "the annotation of its parameter service is not understood: "),
        (by_position, "its parameter clock cannot be given by its name"),
        (generates, "it is a generator, of which calling it runs nothing"),
        (generates_plainly, "it is a generator, of which calling it runs nothing"),
        (CalledGenerates(), "it is a generator, of which calling it runs nothing"),
        (WithoutHandle, "it is a class without a method handle"),
        (Abstract, "it is an abstract class"),
        (HandleIsNoMethod(), "it is no function, no class, and no object with a method handle"),
        (WithoutHandle(), "it is no function, no class, and no object with a method handle"),
        ("no handler", "it is no function, no class, and no object with a method handle"),
        ({}.update, "which parameters it has cannot be found out"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_what_cannot_handle_the_event_is_refused_with_the_reason(handler: Any, reason: str) -> None:
    bus = EventBus(Known(Clock))
    with pytest.raises(HandlerRefusedError, match=re.escape(f" cannot handle OrderCreated: {reason}")) as refused:
        bus.register(OrderCreated, handler)
    assert getattr(handler, "__name__", type(handler).__name__) in str(refused.value)
    assert isinstance(refused.value, TypeError)
    # It was not kept.
    await bus.emit(OrderCreated(order_id="1"), raises=True)


def test_without_services_nothing_can_be_needed() -> None:
    with pytest.raises(HandlerRefusedError, match="clock takes Clock, which it would get from services: none are"):
        EventBus().register(OrderCreated, with_clock)


@pytest.mark.parametrize("wrong", [Clock, "OrderCreated", OrderCreated(order_id="1"), None])
def test_only_events_are_handled(wrong: Any) -> None:
    with pytest.raises(HandlerRefusedError, match=r"by_name cannot handle .*: that is no class derived from BaseEvent"):
        EventBus(CLOCKED).register(wrong, by_name)


@pytest.mark.parametrize("handler", [with_clock, TakesMore, TakesMore(), TakesMore().handle, SEEN.append], ids=str)
def test_the_same_handler_is_registered_once(handler: Handler) -> None:
    bus = EventBus(CLOCKED)
    bus.register(OrderCreated, handler)
    again = getattr(handler, "__self__", None) is not None and getattr(handler.__self__, handler.__name__)  # type: ignore[union-attr]  # a method is made anew
    with pytest.raises(HandlerRefusedError, match="cannot handle OrderCreated: it is registered for it already"):
        bus.register(OrderCreated, again or handler)
    bus.register(OrderPaid, handler)


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (no_services, f"{__name__}.no_services"),
        (functools.partial(functools.partial(no_services)), f"{__name__}.no_services"),
        (TakesEvents, f"{__name__}.TakesEvents"),
        (TakesEvents(), f"{__name__}.TakesEvents"),
        (TakesEvents().handle, f"{__name__}.TakesEvents.handle"),
        (SEEN.append, "list.append"),
    ],
    ids=str,
)
def test_a_handler_is_named_after_what_is_written(handler: Handler, name: str) -> None:
    bus = EventBus()
    bus.register(OrderCreated, handler)
    with pytest.raises(HandlerRefusedError) as refused:
        bus.register(OrderCreated, handler)
    assert refused.value.handler == name


def test_handlers_that_are_equal_are_not_the_same() -> None:
    @dataclass
    class Collects:
        events: list[OrderCreated]

        async def handle(self, event: OrderCreated) -> None: ...

    bus = EventBus()
    for handler in (Collects([]), Collects([])):
        bus.register(OrderCreated, handler)


def test_what_cannot_be_known_of_the_first_parameter_is_believed() -> None:
    async def anything(event: Any) -> None: ...
    async def variable(event: T) -> None: ...
    async def protocol(event: Marked) -> None: ...
    async def several(*events: OrderCreated) -> None: ...

    bus = EventBus()
    for handler in (anything, variable, protocol, several):
        bus.register(OrderCreated, handler)
