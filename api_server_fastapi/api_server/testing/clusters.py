"""Clusters of real PostgreSQL nodes for tests, to be promoted, killed, frozen and cut off."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from api_server.local.lab import Lab, LabOptions

MakeCluster = Callable[..., Lab]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[MakeCluster]:
    """Give `cluster(nodes=2, synchronous=True, haproxy=False, pgbouncer=False, …)`: a lab that is up, on free ports.

    What it takes are the fields of `LabOptions`. Everything of it ends with the test, whatever state that left it in.
    """
    with ExitStack() as labs:
        numbers = iter(range(1, 100))

        def make(**options: object) -> Lab:
            lab = Lab.create(tmp_path / f"lab-{next(numbers)}", LabOptions(**{"free_ports": True, **options}))  # type: ignore[arg-type] # its fields, checked by itself
            labs.callback(lab.down)
            lab.up()
            return lab

        yield make
