"""The one container technology: a svcs registry that knows singletons and can be asked without a request."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import svcs

T = TypeVar("T")


class ServiceRegistry(svcs.Registry):
    """Maps types to how their instances are made; closing it closes what it made for the process."""

    def __init__(self) -> None:
        super().__init__()
        self._process_container = svcs.Container(self)
        self._building = threading.RLock()

    def register_singleton(
        self, service_type: type[T], factory: Callable[..., T], *, ping: Callable[..., Any] | None = None
    ) -> None:
        """Register a factory that runs at most once per registry, on first use; every container gets its one result.

        The factory may take a `svcs.Container` as its first argument, and then gets the process's.
        """
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

    def close(self) -> None:
        self._process_container.close()
        super().close()

    async def aclose(self) -> None:
        await self._process_container.aclose()
        await super().aclose()
