"""Who blocks an event loop is told, with the place, once; who only stands still is not."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from api_server.loop_watch import LoopWatch
from api_server.metrics import Metrics
from api_server.testing import ServiceProcess, StartService
from numbers_told import numbers

SUPPORT = Path(__file__).parents[1] / "support"
LIMIT_MS = 150


@dataclass
class Shop:
    """A service whose event loop is watched."""

    service: ServiceProcess
    client: httpx2.Client

    @property
    def lines(self) -> list[dict[str, Any]]:
        written = (json.loads(line) for line in self.service.log.splitlines() if line.startswith("{"))
        return [line for line in written if line["logger"] == "api_server.loop"]

    def numbers(self) -> dict[str, float]:
        return numbers(self.client.get("/metrics").text)

    def wait_until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < deadline, self.service.log
            time.sleep(0.02)


StartShop = Callable[..., Shop]


@pytest.fixture
def start_shop(start_service: StartService, unused_tcp_port: int) -> Iterator[StartShop]:
    with httpx2.Client(base_url=f"http://127.0.0.1:{unused_tcp_port}", timeout=30) as client:

        def start(limit_ms: int = LIMIT_MS) -> Shop:
            service = start_service(
                [Path(sys.executable).with_name("api-server")],
                API_SERVER_APP="measured_app:APP",
                API_SERVER_LOOP_WATCHDOG_MS=str(limit_ms),
                UVICORN_PORT=str(unused_tcp_port),
                PYTHONPATH=str(SUPPORT),
            )
            service.wait_until_it_answers(f"{client.base_url}/livez")
            return Shop(service, client)

        yield start


@pytest.mark.slow
def test_who_blocks_the_event_loop_is_told_while_it_does_and_for_how_long_it_did(start_shop: StartShop) -> None:
    shop = start_shop()
    with ThreadPoolExecutor(1) as pool:
        blocking = pool.submit(shop.client.get, "/shop/nap?seconds=1.5&secret=hunter2")
        shop.wait_until(lambda: bool(shop.lines))
        assert not blocking.done()
        blocking.result()
    shop.wait_until(lambda: len(shop.lines) == 2)
    begun, ended = shop.lines
    assert (begun["event"], begun["level"], begun["limit_ms"]) == ("event loop blocked", "warning", LIMIT_MS)
    assert "measured_app.py" in begun["stack"][-1]
    assert begun["stack"][-1].endswith(" in nap")
    assert ended["event"] == "event loop turns again"
    assert 1300 <= ended["blocked_ms"] <= 5000
    assert not any("hunter2" in json.dumps(line) for line in shop.lines)

    # Further incidents are counted, and told by the next line that is written.
    for _ in range(3):
        shop.client.get("/shop/nap?seconds=0.4")
    told = shop.numbers()
    assert told["event_loop_blocked_total"] == 4
    assert told["event_loop_lag_max_seconds"] >= 1.3
    assert told["event_loop_lag_seconds_count"] - told["event_loop_lag_seconds_bucket{le=0.25}"] >= 4
    assert len(shop.lines) == 2
    assert shop.service.stop() == 0


async def test_a_stall_counts_nearly_whole_whenever_it_begins() -> None:
    metrics = Metrics()
    stalls = 5
    async with LoopWatch(metrics, 0.25).watching():
        for number in range(stalls):
            await asyncio.sleep(0.04 + number * 0.007)
            time.sleep(0.06)  # noqa: ASYNC251 - which is what is looked for
        await asyncio.sleep(0.04)
    told = numbers((await metrics.text()).decode())
    assert told["event_loop_lag_seconds_count"] - told["event_loop_lag_seconds_bucket{le=0.025}"] >= stalls


@pytest.mark.slow
def test_who_computes_is_told_and_a_process_that_was_stopped_is_not(start_shop: StartShop) -> None:
    shop = start_shop()
    ticks = "event_loop_lag_seconds_count"
    before = shop.numbers()[ticks]
    shop.service.send(signal.SIGSTOP)
    time.sleep(1.5)
    shop.service.send(signal.SIGCONT)
    shop.wait_until(lambda: shop.numbers()[ticks] > before + 5)
    assert shop.numbers()["event_loop_blocked_total"] == 0
    assert shop.lines == []
    shop.client.get("/shop/spin?seconds=1.0")
    shop.wait_until(lambda: len(shop.lines) == 2)
    assert shop.lines[0]["stack"][-1].endswith(" in spin")
    assert shop.numbers()["event_loop_blocked_total"] == 1


@pytest.mark.slow
def test_at_zero_the_loop_is_measured_and_nobody_is_told(start_shop: StartShop) -> None:
    shop = start_shop(limit_ms=0)
    shop.client.get("/shop/nap?seconds=0.7")
    shop.wait_until(lambda: shop.numbers()["event_loop_lag_max_seconds"] >= 0.5)
    assert shop.numbers()["event_loop_blocked_total"] == 0
    assert shop.lines == []
