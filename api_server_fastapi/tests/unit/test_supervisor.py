"""A worker that ends is replaced; one that never served is tried again later and later, and takes nobody down."""

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from api_server import supervisor as supervisor_module
from api_server.exceptions import StartError
from api_server.supervisor import Supervisor
from uvicorn.config import STARTUP_FAILURE


class StandIn:
    """A worker without a process."""

    def __init__(self, *_: object, **__: object) -> None:
        self.process = self
        self.exitcode: int | None = None
        self.reason: str | None = None
        self.has_served = False
        self.is_buried = False
        self.pid = id(self)

    @property
    def cannot_start(self) -> bool:
        return self.exitcode == STARTUP_FAILURE

    def start(self) -> None:
        """Be one of those that the tests look at."""

    def is_alive(self) -> bool:
        return self.exitcode is None

    def is_well(self, patience: float) -> bool:
        return self.is_alive()

    def bury(self) -> None:
        self.is_buried = True

    def terminate(self) -> None:
        self.exitcode = 0

    def ends(self, status: int, reason: str | None = None) -> None:
        self.exitcode, self.reason = status, reason


class Watched(Supervisor):
    """A supervisor whose clock stands still unless it is moved."""

    now = 1000.0

    def started(self, number: int) -> list[StandIn]:
        """Start so many at first, and return those there are, now and later."""
        workers: list[Any] = self._workers
        workers += [self._started() for _ in range(number)]
        return workers

    def look(self) -> None:
        self._look_after_workers()

    def seconds_until_replaced(self, index: int) -> float:
        """Move the clock until another worker stands there; return how long that took."""
        began, gone = self.now, self._workers[index]
        self.look()
        while self._workers[index] is gone:
            assert self.now - began < 100
            self.now += 0.25
            self.look()
        return self.now - began

    def is_given_up(self) -> bool:
        return self._is_over


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    config = uvicorn.Config("nothing:made", factory=True, log_config=None)
    with socket.socket() as listener:
        watched = Watched(config, listener, within=1, lingers=False, prepare=lambda: None)
        monkeypatch.setattr(supervisor_module, "Worker", StandIn)
        # Its own clock only: what waits for signals and workers has the real one.
        monkeypatch.setattr(supervisor_module, "time", SimpleNamespace(monotonic=lambda: watched.now))
        with watched._bell, watched._ringing:
            yield watched


def test_who_served_is_replaced_at_once(supervisor: Watched) -> None:
    workers = supervisor.started(2)
    for worker in workers:
        worker.has_served = True
    supervisor.look()
    workers[0].ends(-9)
    assert supervisor.seconds_until_replaced(0) == 0


@pytest.mark.parametrize("status", [STARTUP_FAILURE, 1, -9])
def test_who_does_not_start_is_tried_later_and_later_while_the_others_serve(supervisor: Watched, status: int) -> None:
    workers = supervisor.started(2)
    workers[1].has_served = True
    supervisor.look()
    pauses = []
    for _ in range(8):
        workers[0].ends(status)
        pauses.append(supervisor.seconds_until_replaced(0))
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert not supervisor.is_given_up()
    # Once all serve the next failure is the first one again.
    workers[0].has_served = True
    supervisor.look()
    workers[1].ends(-9)
    assert supervisor.seconds_until_replaced(1) == 0
    workers[1].ends(status)
    assert supervisor.seconds_until_replaced(1) == 0.5


def test_where_none_has_ever_served_a_start_that_fails_for_good_is_the_last(supervisor: Watched) -> None:
    supervisor.started(2)[1].ends(STARTUP_FAILURE)
    supervisor.look()
    assert supervisor.is_given_up()


def test_where_none_has_ever_served_any_other_end_is_borne_a_few_times(supervisor: Watched) -> None:
    workers = supervisor.started(2)
    for _ in range(4):
        for worker in workers:
            worker.ends(1)
        supervisor.look()
        assert not supervisor.is_given_up()
        supervisor.seconds_until_replaced(0)
    workers[0].ends(1)
    supervisor.look()
    assert supervisor.is_given_up()


def test_what_the_first_worker_says_is_what_the_launcher_says(
    supervisor: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(*_: object, **__: object) -> StandIn:
        worker = StandIn()
        worker.ends(STARTUP_FAILURE, "Set something else.")
        return worker

    monkeypatch.setattr(supervisor_module, "Worker", failed)
    with pytest.raises(StartError, match=r"^Set something else\.$"):
        supervisor.run()


def test_it_ends_with_the_status_of_a_start_that_failed(supervisor: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandIn, "start", lambda worker: worker.ends(STARTUP_FAILURE))
    assert supervisor.run() == STARTUP_FAILURE
