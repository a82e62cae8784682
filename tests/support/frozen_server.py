"""A server that accepts connections and answers nothing."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil
from api_server.testing import RunningCluster


@contextmanager
def frozen(server: RunningCluster) -> Iterator[None]:
    """Stop all processes of a PostgreSQL without ending them, for as long as the context lasts."""
    postmaster = psutil.Process(int((server.cluster.data / "postmaster.pid").read_text().splitlines()[0]))
    processes = [postmaster, *postmaster.children(recursive=True)]
    _send(signal.SIGSTOP, processes)
    try:
        yield
    finally:
        _send(signal.SIGCONT, processes)


def _send(number: signal.Signals, processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        # One may end just now.
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
