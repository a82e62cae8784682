"""The numbers of a process, as Prometheus asks for them."""

import pytest
from api_server.app import create_app
from api_server.application import Application
from api_server.metrics import Metrics
from api_server.services.di import get_registry
from api_server.testing import Serve
from prometheus_client.parser import text_string_to_metric_families


def numbers(text: str) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


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


def test_a_counter_is_made_once() -> None:
    metrics = Metrics()
    metrics.counter("shop_orders", "Orders.")
    with pytest.raises(ValueError, match="shop_orders"):
        metrics.counter("shop_orders", "Orders.")
