"""Where the workers of a service keep their numbers, so that any of them can tell those of all."""

import fcntl
import json
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any

from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from api_server.exceptions import StartError

# Where prometheus_client, when it is imported, reads that values are to be kept in files.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

# What only who is left behind can count: each worker has this counter, and never adds to it.
DEATHS, DEATHS_DESCRIPTION = "service_worker_deaths", "Workers that ended and had not left, as one that is killed."

_GROWING = ("counter", "histogram")
_GONE = "gone"
_STARTED = "started"
_LEFT = b"left"
_DEATHS_KEY = mmap_key(DEATHS, f"{DEATHS}_total", [], [], DEATHS_DESCRIPTION)


@contextmanager
def shared_metrics(workers: int) -> Iterator[None]:
    """Give the processes that are started within the context a folder for their numbers; one worker needs none.

    It lies in the temporary folder, or in the one that `PROMETHEUS_MULTIPROC_DIR` names, and is removed at the end.
    Raises StartError where it cannot be made.
    """
    if workers == 1:
        yield
        return
    given = os.environ.get(FOLDER_VARIABLE) or None
    try:
        folder = mkdtemp(prefix="api-server-metrics-", dir=given)
    except OSError as error:
        raise StartError(
            f"Cannot make a folder for the numbers of {workers} workers in {given or 'the temporary folder'}: "
            f"{error.strerror}. Set {FOLDER_VARIABLE} to a folder that can be written."
        ) from error
    (Path(folder) / _STARTED).write_text(repr(time.time()))
    os.environ[FOLDER_VARIABLE] = folder
    try:
        yield
    finally:
        os.environ.pop(FOLDER_VARIABLE)
        if given is not None:
            os.environ[FOLDER_VARIABLE] = given
        shutil.rmtree(folder, ignore_errors=True)


class MetricFiles:
    """The files of all workers in a folder, as one of them sees it.

    A worker lives for as long as it holds the lock of its own file, which the system takes from it when it ends,
    however it does. What the dead counted is kept in one file for all of them; their gauges are gone. Where somebody
    removed the folder, it is made again for who begins.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._turn():
            self._own = self._worker(os.getpid()).open("ab")
            _is_locked_now(self._own)
            # A former owner of the process id may have left.
            self._own.truncate(0)

    @property
    def started_at(self) -> float | None:
        """When the launcher made the folder, in unix seconds; None where it is not known."""
        try:
            return float((self._folder / _STARTED).read_text())
        except (OSError, ValueError):
            return None

    def leave(self) -> None:
        """Let it be known that this worker ends in good order."""
        self._own.write(_LEFT)
        self._own.flush()

    def read(self) -> tuple[list[int], list[Metric]]:
        """Return the process ids of the living, and the numbers of all. It reads files: not for the event loop.

        Raises OSError where the files of this worker, or all, were removed.
        """
        with self._turn():
            # Without it, others count this worker as gone.
            self._worker(os.getpid()).stat()
            for pid in (living := self._workers()).copy():
                if pid != os.getpid() and self._is_dead(pid):
                    living.remove(pid)
                    self._bury(pid)
            return living, merged(self._folder.glob("*.db"))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let nobody else come, go or read meanwhile."""
        with (self._folder / "turn").open("ab") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            yield

    def _workers(self) -> list[int]:
        return sorted(int(file.stem) for file in self._folder.glob("*.worker"))

    def _worker(self, pid: int) -> Path:
        return self._folder / f"{pid}.worker"

    def _is_dead(self, pid: int) -> bool:
        with self._worker(pid).open("ab") as file:
            return _is_locked_now(file)

    def _bury(self, pid: int) -> None:
        for kind in _GROWING:
            self._add_up(self._folder / f"{kind}_{pid}.db", self._folder / f"{kind}_{_GONE}.db")
        for gauges in self._folder.glob(f"gauge_*_{pid}.db"):
            gauges.unlink()
        if not self._worker(pid).stat().st_size:
            _add(self._folder / f"counter_{_GONE}.db", [(_DEATHS_KEY, 1.0)])
        self._worker(pid).unlink()

    @staticmethod
    def _add_up(file: Path, total_file: Path) -> None:
        if file.exists():
            _add(total_file, _values(file))
            file.unlink()


def _add(file: Path, values: Iterable[tuple[str, float]]) -> None:
    total: Any = MmapedDict(str(file))  # type: ignore[no-untyped-call]  # it has no types
    for key, value in values:
        before, _ = total.read_value(key)
        total.write_value(key, before + value, 0.0)
    total.close()


def merged(files: Iterable[Path]) -> list[Metric]:
    """Add up what the files hold; of gauges, as their mode says. What is not a number counts only where nothing is."""
    found: dict[str, tuple[str, float]] = {}
    for file in files:
        kind, mode = file.name.split("_")[:2]
        combine = max if mode == "livemax" else _sum
        for key, value in _values(file):
            _, before = found.get(key, (kind, math.nan))
            if math.isnan(before) or math.isnan(value):
                found[key] = (kind, value if math.isnan(before) else before)
            else:
                found[key] = (kind, combine(before, value))
    metrics: dict[str, Metric] = {}
    for key, (kind, value) in sorted(found.items()):
        name, sample, labels, description = json.loads(key)
        metric = metrics.setdefault(name, Metric(name, description, kind))
        metric.add_sample(sample, labels, value)
    return [_accumulated(metric) if metric.type == "histogram" else metric for metric in metrics.values()]


def _accumulated(histogram: Metric) -> Metric:
    """Make of the number in each bucket that of it and all below, and of those the count."""
    answer = Metric(histogram.name, histogram.documentation, histogram.type)
    buckets: dict[tuple[tuple[str, str], ...], list[tuple[str, float]]] = {}
    for sample in histogram.samples:
        labels = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        if (limit := sample.labels.get("le")) is None:
            answer.add_sample(sample.name, dict(labels), sample.value)
        else:
            buckets.setdefault(labels, []).append((limit, sample.value))
    for labels, numbers in buckets.items():
        count = 0.0
        for limit, number in sorted(numbers, key=lambda bucket: float(bucket[0])):
            count += number
            answer.add_sample(f"{histogram.name}_bucket", {**dict(labels), "le": limit}, count)
        answer.add_sample(f"{histogram.name}_count", dict(labels), count)
    return answer


def _values(file: Path) -> Iterator[tuple[str, float]]:
    # A worker that has just begun, or was killed at that moment, has made the file and not yet written its length.
    if file.stat().st_size:
        for key, value, _, _ in MmapedDict.read_all_values_from_file(file):  # type: ignore[no-untyped-call]  # as above
            yield key, value


def _sum(one: float, other: float) -> float:
    return one + other


def _is_locked_now(file: IO[bytes]) -> bool:
    """Take the lock of a file, and say whether nobody else has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
