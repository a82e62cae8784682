"""One container technology, with singletons and a door for who has no request."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import svcs
from api_server.services.registry import ServiceRegistry


class Engine:
    pass


class Car:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine


def test_a_singleton_is_one_object_by_every_door() -> None:
    registry = ServiceRegistry()
    registry.register_singleton(Engine, Engine)
    with svcs.Container(registry) as one, svcs.Container(registry) as other:
        assert one.get(Engine) is other.get(Engine) is registry.get(Engine)


def test_a_singleton_is_not_made_before_it_is_needed() -> None:
    made: list[Engine] = []

    def factory() -> Engine:
        made.append(Engine())
        return made[-1]

    registry = ServiceRegistry()
    registry.register_singleton(Engine, factory)
    assert made == []
    registry.get(Engine)
    registry.get(Engine)
    assert len(made) == 1


def test_a_singleton_may_be_made_of_others() -> None:
    registry = ServiceRegistry()
    registry.register_singleton(Engine, Engine)
    registry.register_singleton(Car, svcs.autowire(Car))
    assert registry.get(Car).engine is registry.get(Engine)


def test_an_ordinary_service_is_one_per_container() -> None:
    registry = ServiceRegistry()
    registry.register_factory(Engine, Engine)
    with svcs.Container(registry) as one, svcs.Container(registry) as other:
        assert one.get(Engine) is one.get(Engine)
        assert one.get(Engine) is not other.get(Engine)
    assert registry.get(Engine) is registry.get(Engine)


def test_threads_that_ask_at_once_get_the_same_singleton() -> None:
    barrier = threading.Barrier(8)
    registry = ServiceRegistry()
    registry.register_singleton(Engine, Engine)

    def ask(_: int) -> Engine:
        barrier.wait()
        with svcs.Container(registry) as container:
            return container.get(Engine)

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(8)))) == 1


async def test_closing_the_registry_closes_its_singletons() -> None:
    closed: list[str] = []

    def factory() -> Any:
        yield Engine()
        closed.append("engine")

    registry = ServiceRegistry()
    registry.register_singleton(Engine, factory)
    async with registry:
        registry.get(Engine)
        with svcs.Container(registry) as container:
            container.get(Engine)
        assert closed == []
    assert closed == ["engine"]


def test_the_last_registration_wins() -> None:
    class Diesel(Engine):
        pass

    registry = ServiceRegistry()
    registry.register_singleton(Engine, Engine)
    registry.register_singleton(Engine, Diesel)
    assert isinstance(registry.get(Engine), Diesel)


def test_what_is_not_registered_is_an_error() -> None:
    with pytest.raises(svcs.exceptions.ServiceNotFoundError):
        ServiceRegistry().get(Engine)
