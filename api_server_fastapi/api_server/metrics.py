"""The numbers of a process, as collectors of Prometheus read them."""

import asyncio
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.process_collector import ProcessCollector

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    """Counters and gauges of one process: each worker counts, and answers, for itself.

    A counter's name that is taken raises ValueError.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._gauges: dict[str, Gauge] = {}
        ProcessCollector(registry=self._registry)
        self.gauge("asyncio_tasks", "Tasks of the event loop.", lambda: len(asyncio.all_tasks()))

    def counter(self, name: str, description: str) -> Counter:
        """Make a counter, which only grows; Prometheus sees it as `<name>_total`."""
        return Counter(name, description, registry=self._registry)

    def gauge(self, name: str, description: str, read: Callable[[], float], **labels: str) -> None:
        """Have a number read whenever somebody asks; the same name with other values of its labels is another one."""
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = self._gauges[name] = Gauge(name, description, tuple(labels), registry=self._registry)
        (gauge.labels(**labels) if labels else gauge).set_function(read)

    def text(self) -> bytes:
        """Return all numbers as of now, in Prometheus' text format; to be called in the event loop."""
        return generate_latest(self._registry)
