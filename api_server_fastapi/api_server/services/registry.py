"""The one container technology: a svcs registry that knows singletons and can be asked without a request."""

import threading
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import svcs

T = TypeVar("T")


class ServiceRegistry(svcs.Registry):
    """Maps types to how their instances are made; closing it closes what it made for the process."""

    def __init__(self) -> None:
        super().__init__()
        self._process_container = svcs.Container(self)
        self._building = threading.RLock()
        self._cached: list[Callable[[], object]] = []

    def register_singleton(
        self, service_type: type[T], factory: Callable[..., T], *, ping: Callable[..., Any] | None = None
    ) -> None:
        """Register a factory that runs at most once per registry, on first use; every container gets its one result.

        The factory may take a `svcs.Container` as its first argument, and then gets the process's. It may also be a
        getter that caches its result (`functools.lru_cache`): whoever calls it gets the same object, until the registry
        closes.
        """
        if (cache_clear := getattr(factory, "cache_clear", None)) is not None:
            self._cached.append(cache_clear)
        own_type: type[T] = type(f"{service_type.__name__}Singleton", (), {})
        self.register_factory(own_type, factory)

        def shared() -> T:
            with self._building:
                return self._process_container.get(own_type)

        self.register_factory(service_type, shared, enter=False, ping=ping)

    def get(self, service_type: type[T]) -> T:
        """Return the process's instance of a service: for commands, handlers and whoever has no request."""
        with self._building:
            return self._process_container.get(service_type)

    def pings(self) -> Mapping[str, Callable[[], Awaitable[None] | None]]:
        """Return a function for each service that was registered with a `ping`, by the name of its type.

        It is a coroutine function or a plain one, as the ping is. The name is the whole one where two types share it.
        """
        with svcs.Container(self) as container:
            pings = container.get_pings()
        short = [ping.name.rpartition(".")[2] for ping in pings]
        names = [name if short.count(name) == 1 else ping.name for name, ping in zip(short, pings, strict=True)]
        return {
            name: partial(self._aping if ping.is_async else self._ping, ping.name)
            for name, ping in zip(names, pings, strict=True)
        }

    def _ping(self, name: str) -> None:
        with svcs.Container(self) as container:
            next(ping for ping in container.get_pings() if ping.name == name).ping()

    async def _aping(self, name: str) -> None:
        async with svcs.Container(self) as container:
            await next(ping for ping in container.get_pings() if ping.name == name).aping()

    def close(self) -> None:
        self._process_container.close()
        self._forget_cached()
        super().close()

    async def aclose(self) -> None:
        await self._process_container.aclose()
        self._forget_cached()
        await super().aclose()

    def _forget_cached(self) -> None:
        for cache_clear in self._cached:
            cache_clear()
