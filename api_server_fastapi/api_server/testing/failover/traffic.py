"""Writers and bystanders at work, while another thread does things to the database."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from api_server.testing.failover.bystanders import Bystander, Observation, observe
from api_server.testing.failover.ledger import Ledger
from api_server.testing.failover.writers import Send, Writers


@dataclass(frozen=True, slots=True)
class Clients:
    """Who asks a service: writers by their faces, and bystanders by their names."""

    faces: Mapping[str, Send]
    bystanders: Mapping[str, Bystander] = field(default_factory=dict)


class NotAcknowledgedError(Exception):
    """Writes were not acknowledged in time."""


OpenClients = Callable[[], AbstractAsyncContextManager[Clients]]


class Traffic:
    """Asks a service in a thread with an event loop of its own, for as long as the context lasts.

    Whoever leaves the context without `stop` waits for no answers.
    """

    def __init__(self, clients: OpenClients, *, rate_per_s: float, seed: int, drain_s: float = 15.0) -> None:
        self.ledger = Ledger()
        self.bystanders: dict[str, Observation] = {}
        self._clients = clients
        self._rate_per_s, self._seed, self._drain_s = rate_per_s, seed, drain_s
        self._thread = threading.Thread(target=self._run, name="failover traffic")
        self._begun: Future[Callable[[float], None]] = Future()
        self._ended: Future[None] = Future()

    def __enter__(self) -> Self:
        self._thread.start()
        self._begun.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._end(0.0)

    def stop(self) -> None:
        """Ask nothing more, and return when everything is answered; raises what no client should have raised."""
        self._end(self._drain_s)
        self._ended.result()

    def wait_for_acknowledgements(self, number: int, within_s: float) -> None:
        """Wait until so many more writes are acknowledged; raises NotAcknowledgedError where it takes too long."""
        asked, deadline = self.ledger.acknowledgements, time.monotonic() + within_s
        while self.ledger.acknowledgements < asked + number:
            acknowledged = self.ledger.acknowledgements - asked
            if time.monotonic() > deadline or self._ended.done():
                raise NotAcknowledgedError(f"{acknowledged} of {number} writes were acknowledged in {within_s} s")
            time.sleep(0.01)

    def _end(self, drain_s: float) -> None:
        self._begun.result()(drain_s)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._ask())
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits for this thread
            self._ended.set_exception(error)
            if not self._begun.done():
                self._begun.set_exception(error)
        else:
            self._ended.set_result(None)

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._clients() as clients:
            writers = Writers(self.ledger, clients.faces, rate_per_s=self._rate_per_s, seed=self._seed)
            watching = [self._watch(name, bystander) for name, bystander in clients.bystanders.items()]
            self._begun.set_result(lambda drain_s: _call(loop, partial(writers.stop, drain_s=drain_s)))
            try:
                await writers.run()
                for task in watching:
                    if task.done():
                        task.result()
            finally:
                for observation in self.bystanders.values():
                    observation.ended_at = time.monotonic()
                for task in watching:
                    task.cancel()
                await asyncio.gather(*watching, return_exceptions=True)

    def _watch(self, name: str, bystander: Bystander) -> asyncio.Task[None]:
        self.bystanders[name] = observation = Observation()
        return asyncio.create_task(observe(bystander, observation))


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Call a function in a loop of another thread, unless that has ended."""
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        if not loop.is_closed():
            raise
