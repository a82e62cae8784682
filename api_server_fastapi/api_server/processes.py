"""Processes that belong together: a child that does not outlive its parent, signals that wait for a critical moment."""

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


def when_parent_ends(act: Callable[[], object]) -> None:
    """In a process that `multiprocessing` started, call `act` once its parent is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        act()

    threading.Thread(target=wait, name="parent watch", daemon=True).start()


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP take effect only at the end of the context: what it does is never half done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def remember(signal_number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        received.append(signal_number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, remember) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for received_number in received:
            signal.raise_signal(received_number)
