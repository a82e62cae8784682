"""The numbers of a process, as Prometheus asks for them."""

import asyncio
import math
import platform
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from api_server.app import create_app
from api_server.application import Application
from api_server.metric_files import MetricFiles
from api_server.metrics import Metrics
from api_server.middlewares import MetricsMiddleware
from api_server.services.di import get_registry
from api_server.services.health_check_service import HealthCheckService
from api_server.services.measured import RequestNumbers
from api_server.settings import get_settings
from api_server.testing import Serve
from fastapi import FastAPI
from measured_app import APP, reports
from numbers_told import numbers
from prometheus_client.metrics_core import Metric
from starlette.types import Receive, Scope, Send


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """The settings of each test's own environment."""
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


async def test_whoever_collects_them_needs_no_identity_and_gets_what_the_process_holds(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENV_TYPE", "production")
    service = Application(name="shop", version="1", uses_database=lambda: False)
    async with serve(create_app(service)) as client:
        answer = await client.get("/metrics")
        post = await client.post("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert answer.headers["cache-control"] == "no-store"
    assert numbers(answer.text)["asyncio_tasks"] >= 1
    assert numbers(answer.text)["process_open_fds"] >= 3
    assert post.status_code in (401, 405)


async def test_an_application_adds_its_own(serve: Serve) -> None:
    waiting = {"large": 2, "small": 3}

    service = Application(name="shop", version="1", uses_database=lambda: False)
    async with serve(create_app(service)) as client:
        metrics = get_registry().get(Metrics)
        sold = metrics.counter("shop_orders", "Orders.")
        metrics.gauge("shop_waiting", "Orders that wait.", lambda: waiting["large"], size="large")
        metrics.gauge("shop_waiting", "Orders that wait.", lambda: waiting["small"], size="small")
        sold.inc()
        first = numbers((await client.get("/metrics")).text)
        waiting["large"] = 7
        sold.inc(2)
        second = numbers((await client.get("/metrics")).text)
    assert (first["shop_orders_total"], second["shop_orders_total"]) == (1, 3)
    assert (first["shop_waiting{size=large}"], second["shop_waiting{size=large}"]) == (2, 7)
    assert second["shop_waiting{size=small}"] == 3


async def test_what_somebody_counts_already_is_followed(serve: Serve) -> None:
    sold = {"tea": 2}
    async with serve(create_app(APP)) as client:
        metrics = get_registry().get(Metrics)
        metrics.follow_each("shop_sold", "Sold.", "thing", lambda: sold)
        metrics.follow("shop_visits", "Visits.", lambda: len(sold))
        first = numbers((await client.get("/metrics")).text)
        sold.update(tea=5, milk=0)
        second = numbers((await client.get("/metrics")).text)
    assert (first["shop_sold_total{thing=tea}"], first["shop_visits_total"]) == (2, 1)
    assert (second["shop_sold_total{thing=tea}"], second["shop_sold_total{thing=milk}"]) == (5, 0)
    assert second["shop_visits_total"] == 2


async def test_a_number_that_cannot_be_read_takes_no_other_with_it(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serve(create_app(APP)) as client:
        get_registry().get(Metrics).gauge("shop_waiting", "Orders that wait.", lambda: 1 / 0)
        for _ in range(3):
            answer = await client.get("/metrics")
    told = numbers(answer.text)
    assert math.isnan(told["shop_waiting"])
    assert told["service_ready"] == 1
    assert capsys.readouterr().err.count("a metric cannot be read") == 1


async def test_what_cannot_be_counted_now_is_counted_later(capsys: pytest.CaptureFixture[str]) -> None:
    visits: list[float] = [math.nan, 2, math.nan, 5]
    sold: list[dict[str, float] | None] = [{"tea": math.nan}, None, {"tea": 3}, {"tea": 4}]

    def read_sold() -> dict[str, float]:
        if (found := sold.pop(0)) is None:
            raise RuntimeError("nobody has counted")
        return found

    metrics = Metrics()
    metrics.follow("shop_visits", "Visits.", lambda: visits.pop(0))
    metrics.follow_each("shop_sold", "Sold.", "thing", read_sold)
    told = [numbers((await metrics.text()).decode()) for _ in range(4)]
    assert [each.get("shop_visits_total") for each in told] == [0, 2, 2, 5]
    assert [each.get("shop_sold_total{thing=tea}") for each in told] == [None, None, 3, 4]


async def test_scrapes_that_come_meanwhile_share_one_reading_which_nobody_ends_by_leaving(tmp_path: Path) -> None:
    metrics, files = Metrics(), _CountedFiles(tmp_path)
    metrics._files = files
    scrapes = [asyncio.create_task(metrics.text()) for _ in range(20)]
    await asyncio.sleep(0)
    scrapes[0].cancel()
    files.may_read.set()
    left, *answers = await asyncio.gather(*scrapes, return_exceptions=True)
    assert isinstance(left, asyncio.CancelledError)
    assert len(set(answers)) == 1
    assert files.readings == 1
    await metrics.text()
    assert files.readings == 2
    files._own.close()


async def test_where_the_files_are_gone_a_worker_tells_its_own_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics, files = Metrics(), MetricFiles(tmp_path / "numbers")
    metrics._files = files
    metrics.counter("shop_orders", "Orders.").inc(3)
    shutil.rmtree(tmp_path / "numbers")
    for _ in range(3):
        assert numbers((await metrics.text()).decode())["shop_orders_total"] == 3
    assert capsys.readouterr().err.count("the numbers of other workers cannot be read") == 1
    files._own.close()


class _CountedFiles(MetricFiles):
    """Files that wait to be read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.readings = 0
        self.may_read = threading.Event()

    def read(self) -> tuple[list[int], list[Metric]]:
        self.readings += 1
        assert self.may_read.wait(5)
        return super().read()


def test_a_name_is_made_once() -> None:
    metrics = Metrics()
    orders = metrics.counter("shop_orders", "Orders.", "size")
    assert metrics.counter("shop_orders", "Orders.", "size") is orders
    assert metrics.counter("shop_orders_total", "Orders.", "size") is orders
    times = metrics.histogram("shop_seconds", "Time.", buckets=(1, 2))
    assert metrics.histogram("shop_seconds", "Time.", buckets=(1, 2)) is times
    for taken in (
        lambda: metrics.counter("shop_orders", "Orders."),
        lambda: metrics.counter("shop_orders", "Other orders.", "size"),
        lambda: metrics.histogram("shop_orders", "Orders.", "size"),
        lambda: metrics.histogram("shop_seconds", "Time.", buckets=(1, 3)),
    ):
        with pytest.raises(ValueError, match=r"the metric shop_\w+ exists already, as a (counter|histogram)"):
            taken()


async def test_requests_are_counted_by_the_template_of_their_route(serve: Serve) -> None:
    app = create_app(APP)
    app.mount("/reports", reports)
    asked = [
        ("GET", "/shop/orders/1", "/shop/orders/{number}", 200),
        ("GET", "/shop/orders/2", "/shop/orders/{number}", 200),
        ("GET", "/shop/orders/none", "/shop/orders/{number}", 422),
        ("DELETE", "/shop/orders/3", "/shop/orders/{number}", 405),
        ("GET", "/shop/failing", "/shop/failing", 500),
        ("GET", "/reports/daily/monday", "/reports/daily/{day}", 200),
        ("GET", "/reports/none/at/all", "/reports/{path}", 404),
        ("GET", "/openapi.json", "/openapi.json", 200),
        ("GET", "/livez", "/livez", 200),
        ("GET", "/ping", "/ping", 200),
        ("GET", "/none/1", "unmatched", 404),
        ("GET", "/none/2", "unmatched", 404),
        ("MKCOL", "/shop/orders/4", "/shop/orders/{number}", 405),
    ]
    async with serve(app) as client:
        for method, path, _, status in asked:
            assert (await client.request(method, path)).status_code == status, path
        told = numbers((await client.get("/metrics")).text)
    expected = Counter(
        f"http_requests_total{{method={'OTHER' if method == 'MKCOL' else method},route={route},status={status}}}"
        for method, _, route, status in asked
    )
    counted = {name: number for name, number in told.items() if name.startswith("http_requests_total")}
    assert counted == expected
    assert told["http_request_duration_seconds_count{method=GET,route=/shop/orders/{number}}"] == 3
    assert told["http_requests_in_progress"] == 1  # the one that asks


async def test_a_stream_of_events_has_no_duration(serve: Serve) -> None:
    async with serve(create_app(APP)) as client:
        await client.get("/shop/ticks")
        told = numbers((await client.get("/metrics")).text)
    assert told["http_requests_total{method=GET,route=/shop/ticks,status=200}"] == 1
    assert told["http_request_duration_seconds_count{method=GET,route=/shop/ticks}"] == 0
    assert told["http_event_streams"] == 0


Messages = list[dict[str, Any]]


async def counted(scope: dict[str, Any], sends: Messages, error: Exception | None = None) -> dict[str, float]:
    """Return what is counted of an application that sends these messages, and then fails."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        for message in sends:
            await send(message)
        if error is not None:
            raise error

    async def ignore(*_: object) -> Any:
        return {}

    metrics = Metrics()
    measured = MetricsMiddleware(answer, lambda: RequestNumbers(metrics))
    with suppress(RuntimeError):
        await measured({"app": FastAPI(), "path": "/orders", "method": "GET", **scope}, ignore, ignore)
    return numbers((await metrics.text()).decode())


REQUESTS = "http_requests_total{method=GET,route=unmatched,status=%d}"


async def test_what_fails_after_its_head_is_a_failure() -> None:
    head = {"type": "http.response.start", "status": 200, "headers": []}
    told = await counted({"type": "http"}, [head], RuntimeError("no more orders"))
    assert told[REQUESTS % 500] == 1
    assert REQUESTS % 200 not in told


async def test_a_head_without_headers_is_one() -> None:
    told = await counted({"type": "http"}, [{"type": "http.response.start", "status": 204}])
    assert told[REQUESTS % 204] == 1


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "websocket.close", "code": 4403}, "4403"),
        ({"type": "websocket.close"}, "1000"),
        ({"type": "websocket.close", "code": 4999}, "OTHER"),
        ({"type": "websocket.http.response.start", "status": 503}, "503"),
    ],
)
async def test_sockets_are_counted_by_why_they_are_closed(message: dict[str, Any], code: str) -> None:
    told = await counted({"type": "websocket", "path": "/graphql"}, [message])
    closed = {name: number for name, number in told.items() if name.startswith("graphql_sockets_closed")}
    assert closed == {f"graphql_sockets_closed_total{{code={code}}}": 1}
    elsewhere = await counted({"type": "websocket", "path": "/own"}, [message])
    assert not any(name.startswith("graphql_sockets_closed") for name in elsewhere)


async def test_a_path_is_no_label_and_neither_is_a_method(serve: Serve) -> None:
    async with serve(create_app(APP)) as client:
        for number, method in enumerate(("MKCOL", "LOCK", "PURGE", "SEARCH", "REPORT")):
            await client.request(method, f"/secret-{number}?token=secret")
            await client.get(f"/shop/orders/secret-{number}")
        text = (await client.get("/metrics")).text
    assert "secret" not in text
    assert text.count("http_requests_total{") == 2


async def test_what_runs_and_how_it_is_are_told(serve: Serve) -> None:
    async with serve(create_app(APP)) as client:
        told = numbers((await client.get("/metrics")).text)
        get_registry().get(HealthCheckService).drain()
        leaving = numbers((await client.get("/metrics")).text)
    assert [name for name in told if name.startswith("service_build_info")] == [
        f"service_build_info{{application=shop,python={platform.python_version()},version=1.2}}"
    ]
    states = {state: told[f"service_readiness{{state={state}}}"] for state in ("operational", "degraded", "error")}
    assert states == {"operational": 1, "degraded": 0, "error": 0}
    assert (told["service_ready"], told["service_draining"]) == (1, 0)
    assert (leaving["service_ready"], leaving["service_draining"]) == (0, 1)
