"""A server that accepts connections and answers nothing."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from api_server.testing import RunningCluster


@contextmanager
def frozen(server: RunningCluster) -> Iterator[None]:
    """Stop all processes of a PostgreSQL without ending them, for as long as the context lasts."""
    postmaster = psutil.Process(int((server.cluster.data / "postmaster.pid").read_text().splitlines()[0]))
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)
