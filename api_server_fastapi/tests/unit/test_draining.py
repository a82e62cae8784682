"""A process that is asked to leave says so first."""

import signal
import threading
from types import FrameType

import pytest
from api_server.draining import before_leaving


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_act_comes_before_whatever_handled_the_signal(number: signal.Signals) -> None:
    happened: list[str] = []

    def handler(signal_number: int, frame: FrameType | None) -> None:
        happened.append(f"handled {signal_number}")

    before = signal.signal(number, handler)
    try:
        with before_leaving(lambda: happened.append("told")):
            signal.raise_signal(number)
        signal.raise_signal(number)
    finally:
        signal.signal(number, before)
    assert happened == ["told", f"handled {number}", f"handled {number}"]


def test_a_handler_that_was_set_meanwhile_stays() -> None:
    def mine(signal_number: int, frame: FrameType | None) -> None:
        raise AssertionError

    before = signal.getsignal(signal.SIGTERM)
    try:
        with before_leaving(lambda: None):
            signal.signal(signal.SIGTERM, mine)
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_interrupt_is_still_one() -> None:
    told: list[int] = []
    with pytest.raises(KeyboardInterrupt), before_leaving(lambda: told.append(1)):
        signal.raise_signal(signal.SIGINT)
    assert told == [1]


def test_outside_of_the_main_thread_nothing_is_changed() -> None:
    seen: list[object] = []

    def look() -> None:
        with before_leaving(lambda: None):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
