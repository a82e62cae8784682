"""The numbers of a service, as collectors of Prometheus read them."""

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from api_server.daemon_thread import DaemonThread
from api_server.metric_files import DEATHS, DEATHS_DESCRIPTION, FOLDER_VARIABLE, MetricFiles

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4

# From a millisecond, which an answer from memory takes, to the time after which a caller has given up.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_PUBLISHING_PERIOD_S = 1.0
_IMPORTED_AT = time.time()

log = structlog.get_logger("api_server.metrics")

Instrument = TypeVar("Instrument", bound=MetricWrapperBase)
Number = TypeVar("Number")


class Metrics:
    """Counters, gauges and histograms of a service.

    Of several workers, whichever is asked tells the numbers of all: counters and histograms of the dead too, and gauges
    as one number of the living. A name that is taken is refused by ValueError, unless all but the values is the same:
    then it is what was made before.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types
        self._registry = CollectorRegistry()
        self._instruments: dict[str, tuple[MetricWrapperBase, tuple[object, ...]]] = {}
        self._readings: dict[tuple[str, ...], Callable[[], None]] = {}
        self._unreadable: set[str] = set()
        self._files = _files()
        self._shared: asyncio.Task[bytes] | None = None
        self._is_alone = False
        if self._files is None:
            ProcessCollector(registry=self._registry)
        self.gauge("asyncio_tasks", "Tasks of the event loop.", lambda: len(asyncio.all_tasks()))
        started_at = (self._files and self._files.started_at) or _IMPORTED_AT
        self.gauge("service_start_time_seconds", "When the service was started.", lambda: started_at, workers="max")
        self.counter(DEATHS, DEATHS_DESCRIPTION)

    def counter(self, name: str, description: str, *labels: str) -> Counter:
        """Return a counter, which only grows; Prometheus sees it as `<name>_total`."""
        return self._instrument(Counter, name, description, labels)

    def histogram(self, name: str, description: str, *labels: str, buckets: Sequence[float] = SECONDS) -> Histogram:
        """Return a histogram with these upper limits; each value of its labels costs a number for each of them."""
        return self._instrument(Histogram, name, description, labels, buckets=tuple(buckets))

    def gauge(
        self,
        name: str,
        description: str,
        read: Callable[[], float],
        *,
        workers: Literal["sum", "max"] = "sum",
        **labels: str,
    ) -> None:
        """Have a number read whenever somebody asks; the same name with other values of its labels is another one.

        Several workers' are added up, or the highest is told; they are as of the last second. What `read` raises is
        logged, and the number is NaN.
        """
        mode: Any = f"live{workers}"
        gauge = self._instrument(Gauge, name, description, tuple(labels), multiprocess_mode=mode)
        child = gauge.labels(**labels) if labels else gauge
        self._readings[name, *labels.values()] = lambda: child.set(self._readable(name, read, math.nan))

    def follow(self, name: str, description: str, read: Callable[[], float], **labels: str) -> None:
        """Count what somebody counts already: `read` returns how many there were so far."""
        counter = self.counter(name, description, *labels)
        child = counter.labels(**labels) if labels else counter
        self._readings[name, *labels.values()] = _Follower(
            lambda: {"": self._readable(name, read, math.nan)}, lambda _: child
        )

    def follow_each(self, name: str, description: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Count what somebody counts already by the values of a label, which no client may choose."""
        counter = self.counter(name, description, label)
        self._readings[(name,)] = _Follower(lambda: self._readable(name, read, {}), counter.labels)

    async def text(self) -> bytes:
        """Return all numbers as of now, in Prometheus' text format."""
        self._refresh()
        if self._files is None:
            return generate_latest(self._registry)
        if self._shared is None:
            self._shared = asyncio.create_task(self._text_of_all(self._files), name="metrics of all workers")
            self._shared.add_done_callback(self._was_shared)
        # Who comes meanwhile waits for the same; who gives up ends it for nobody.
        return await asyncio.shield(self._shared)

    async def _text_of_all(self, files: MetricFiles) -> bytes:
        try:
            # One of its own: those of the event loop may all be busy.
            return await DaemonThread(_Shared(files).text, name="metrics of all workers").outcome()
        except OSError as error:
            if not self._is_alone:
                self._is_alone = True
                log.warning("the numbers of other workers cannot be read", reason=str(error))
            # What this one counts lies in its memory too.
            return generate_latest(self._registry)

    def _was_shared(self, task: asyncio.Task[bytes]) -> None:
        self._shared = None
        # Who asked may have gone.
        task.cancelled() or task.exception()

    @asynccontextmanager
    async def published(self) -> AsyncIterator[None]:
        """Let other workers know what is read here, for as long as the context lasts. Without any, do nothing."""
        if self._files is None:
            yield
            return
        task = asyncio.create_task(self._publish_for_ever(), name="metrics")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            self._refresh()
            self._files.leave()

    async def _publish_for_ever(self) -> None:
        while True:
            self._refresh()
            await asyncio.sleep(_PUBLISHING_PERIOD_S)

    def _refresh(self) -> None:
        for reading in self._readings.values():
            reading()

    def _readable(self, name: str, read: Callable[[], Number], otherwise: Number) -> Number:
        try:
            return read()
        # The edge: one number that cannot be read must not take all others with it.
        except Exception:
            if name not in self._unreadable:
                self._unreadable.add(name)
                log.exception("a metric cannot be read", metric=name)
            return otherwise

    def _instrument(
        self,
        kind: type[Instrument],
        name: str,
        description: str,
        labels: tuple[str, ...],
        **options: Any,  # noqa: ANN401 - of each kind its own
    ) -> Instrument:
        name = name.removesuffix("_total")
        asked = (kind, description, labels, options)
        if name not in self._instruments:
            made = kind(name, description, labels, registry=self._registry, **options)
            self._instruments[name] = made, asked
            return made
        known, before = self._instruments[name]
        if before != asked or not isinstance(known, kind):
            raise ValueError(
                f"the metric {name} exists already, as a {type(known).__name__.lower()} with another description or "
                "other labels or limits: give this one another name"
            )
        return known


class _Follower:
    """Lets counters grow by what a count has grown since it was read last."""

    def __init__(self, read: Callable[[], Mapping[Any, float]], counter: Callable[[Any], Counter]) -> None:
        self._read = read
        self._counter = counter
        self._told: dict[Any, float] = {}

    def __call__(self) -> None:
        for label, number in self._read().items():
            if math.isnan(number):
                continue
            # One that is 0 is there, too.
            grown = number - self._told.get(label, 0.0)
            if grown > 0 or label not in self._told:
                self._counter(label).inc(max(0.0, grown))
                self._told[label] = number


class _Shared(Collector):
    """The numbers of all workers, from their files, and what the system knows of each."""

    def __init__(self, files: MetricFiles) -> None:
        self._files = files

    def text(self) -> bytes:
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterable[Metric]:
        living, numbers = self._files.read()
        yield from numbers
        yield from _processes(living)

    def describe(self) -> Iterable[Metric]:
        return ()


def _processes(pids: Iterable[int]) -> Iterable[Metric]:
    """Tell of each process, by its id, what a process alone tells of itself."""
    families: dict[str, Metric] = {}
    for pid in pids:
        for of_process in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]  # a default binds it
            family = families.setdefault(
                of_process.name, Metric(of_process.name, of_process.documentation, of_process.type)
            )
            for sample in of_process.samples:
                family.add_sample(sample.name, {**sample.labels, "pid": str(pid)}, sample.value)
    return families.values()


def _files() -> MetricFiles | None:
    """Return the files where prometheus_client keeps its values in some; it decides when it is imported."""
    folder = os.environ.get(FOLDER_VARIABLE)
    is_shared = getattr(values.ValueClass, "_multiprocess", False)
    return MetricFiles(Path(folder)) if folder and is_shared else None
