"""What every event is: a frozen value of named fields."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from typing import Any, ClassVar, Generic, TypeVar

import pytest
from api_server.event_bus import BaseEvent

T = TypeVar("T")


class OrderCreated(BaseEvent):
    order_id: str


class OrderPaid(OrderCreated):
    amount: int = 0
    card: str = field(default="none", repr=False)
    tags: tuple[str, ...] = field(default_factory=tuple)
    kind: ClassVar[str] = "payment"


class Changed(BaseEvent, Generic[T]):
    value: T


def test_its_fields_are_given_by_keyword() -> None:
    assert OrderCreated(order_id="123").order_id == "123"
    with pytest.raises(TypeError):
        OrderCreated("123")  # type: ignore[call-arg]  # what is tested
    with pytest.raises(TypeError):
        OrderCreated()  # type: ignore[call-arg]  # what is tested


def test_it_is_frozen() -> None:
    event = OrderCreated(order_id="123")
    with pytest.raises(FrozenInstanceError):
        event.order_id = "124"  # type: ignore[misc]  # what is tested
    with pytest.raises(FrozenInstanceError):
        event.other = 1  # type: ignore[attr-defined]  # what is tested
    with pytest.raises(FrozenInstanceError):
        BaseEvent().other = 1  # type: ignore[attr-defined]  # what is tested


def test_it_equals_what_has_the_same_class_and_values() -> None:
    assert OrderCreated(order_id="1") == OrderCreated(order_id="1")
    assert OrderCreated(order_id="1") != OrderCreated(order_id="2")
    assert OrderCreated(order_id="1") != OrderPaid(order_id="1")
    assert BaseEvent() == BaseEvent()
    assert len({OrderCreated(order_id="1"), OrderCreated(order_id="1")}) == 1


def test_a_derived_event_has_the_fields_of_its_base_and_its_own() -> None:
    assert [one.name for one in fields(OrderPaid)] == ["order_id", "amount", "card", "tags"]
    paid = OrderPaid(order_id="1", card="4111", tags=("new",))
    assert repr(paid) == "OrderPaid(order_id='1', amount=0, tags=('new',))"
    assert replace(paid, amount=3) == OrderPaid(order_id="1", amount=3, card="4111", tags=("new",))


def test_a_field_that_has_only_an_option_is_required() -> None:
    class Secret(BaseEvent):
        word: str = field(repr=False)

    assert repr(Secret(word="open")).endswith("Secret()")
    with pytest.raises(TypeError):
        Secret()  # type: ignore[call-arg]  # what the type checker knows, too


def test_a_default_that_can_change_is_refused() -> None:
    with pytest.raises(ValueError, match="mutable default"):
        type("Listed", (BaseEvent,), {"__annotations__": {"lines": list}, "lines": []})


@pytest.mark.parametrize("decorator", [dataclass, dataclass(frozen=True), dataclass(frozen=True, kw_only=True)])
def test_it_takes_no_decorator(decorator: Callable[[type], type]) -> None:
    class Decorated(BaseEvent):
        number: int = 0

    with pytest.raises(TypeError, match=r"frozen|__setattr__"):
        decorator(Decorated)


def test_a_base_class_may_take_keywords() -> None:
    class Named:
        name: ClassVar[str]

        def __init_subclass__(cls, *, name: str, **keywords: Any) -> None:
            super().__init_subclass__(**keywords)
            cls.name = name

    class Shipped(BaseEvent, Named, name="shipped"):
        order_id: str

    assert (Shipped.name, Shipped(order_id="1").order_id) == ("shipped", "1")


def test_it_may_be_generic() -> None:
    assert Changed[int](value=3) == Changed(value=3)


def test_it_survives_copying_and_pickling() -> None:
    paid = OrderPaid(order_id="1", amount=2)
    assert copy.deepcopy(paid) == pickle.loads(pickle.dumps(paid)) == paid
