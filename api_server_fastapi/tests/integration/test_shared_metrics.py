"""The numbers of a service of several workers: whoever is asked tells those of all."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import pytest
from api_server.testing import ServiceProcess, StartService
from numbers_told import numbers

SUPPORT = Path(__file__).parents[1] / "support"
REQUESTS = 60


@dataclass
class Shop:
    """A service of two workers; each request comes by a connection of its own, so that both get some."""

    service: ServiceProcess
    url: str

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(self.url + path, timeout=10)

    def numbers(self) -> dict[str, float]:
        return numbers(self.get("/metrics").text)

    @property
    def workers(self) -> set[int]:
        """The processes that have answered an order."""
        return {self.get(f"/shop/orders/{number}").json()["pid"] for number in range(20)}

    def wait_until(self, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        deadline = time.monotonic() + 20
        while not holds(found := self.numbers()):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found


@pytest.fixture
def shop(start_service: StartService, unused_tcp_port: int, tmp_path: Path) -> Iterator[Shop]:
    numbers_in = tmp_path / "numbers"
    numbers_in.mkdir()
    service = start_service(
        [Path(sys.executable).with_name("api-server")],
        API_SERVER_APP="measured_app:APP",
        UVICORN_PORT=str(unused_tcp_port),
        UVICORN_WORKERS="2",
        PYTHONPATH=str(SUPPORT),
        PROMETHEUS_MULTIPROC_DIR=str(numbers_in),
    )
    shop = Shop(service, f"http://127.0.0.1:{unused_tcp_port}")
    service.wait_until_it_answers(f"{shop.url}/livez")
    shop.wait_until(lambda found: found["service_ready"] == 2)
    yield shop
    assert service.stop() == 0, service.log
    assert list(numbers_in.iterdir()) == []


ORDERS = "http_requests_total{method=GET,route=/shop/orders/{number},status=200}"
DURATIONS = "http_request_duration_seconds_count{method=GET,route=/shop/orders/{number}}"


@pytest.mark.slow
def test_any_worker_tells_the_numbers_of_all_and_of_those_that_were_killed(shop: Shop) -> None:
    workers = {shop.get(f"/shop/orders/{number}").json()["pid"] for number in range(REQUESTS)}
    assert len(workers) == 2
    for _ in range(12):
        told = shop.numbers()
        assert (told[ORDERS], told[DURATIONS]) == (REQUESTS, REQUESTS)
        assert told["service_ready"] == 2
    assert {f"process_resident_memory_bytes{{pid={pid}}}" for pid in workers} < told.keys()

    victim = min(workers)
    # So that nobody replaces it at once: what it leaves behind can be looked at.
    supervisor = psutil.Process(victim).parent()
    assert supervisor is not None
    supervisor.suspend()
    os.kill(victim, signal.SIGKILL)
    alone = shop.wait_until(lambda found: found["service_ready"] == 1)
    assert (alone[ORDERS], alone[DURATIONS]) == (REQUESTS, REQUESTS)
    assert f"process_resident_memory_bytes{{pid={victim}}}" not in alone
    assert shop.get("/shop/orders/1").json()["pid"] == max(workers)
    supervisor.resume()

    replaced = shop.wait_until(lambda found: found["service_ready"] == 2)
    assert replaced[ORDERS] == replaced[DURATIONS] == REQUESTS + 1
    assert victim not in shop.workers
    assert shop.numbers()[ORDERS] == REQUESTS + 21


@pytest.mark.slow
def test_workers_that_were_replaced_in_good_order_are_counted_too(shop: Shop) -> None:
    before = shop.workers
    shop.service.send(signal.SIGHUP)
    deadline = time.monotonic() + 30
    while before & shop.workers:
        assert time.monotonic() < deadline, shop.service.log
    told = shop.wait_until(lambda found: found["service_ready"] == 2)
    assert told[ORDERS] % 20 == 0
    assert told[ORDERS] >= 40
    assert sum(name.startswith("process_start_time_seconds") for name in told) == 2
