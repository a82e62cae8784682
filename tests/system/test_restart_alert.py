"""The alert about a service that starts again and again hears of crashes, and of nothing that an operator does."""

import os
import signal
import time
from collections.abc import Callable

import httpx2
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from promql import grown
from sequencer_process import ROOT, Sequencer, StartSequencer

RULES = yaml.safe_load((ROOT / "deploy" / "grafana" / "alerts.yml").read_text())
(RESTARTS,) = [
    rule["expr"] for group in RULES["groups"] for rule in group["rules"] if rule["alert"] == "ProcessRestarts"
]

Scrape = dict[str, float]


def scrape(sequencer: Sequencer) -> tuple[Scrape, set[int]]:
    """Return the numbers without labels, and the workers' process ids."""
    # By a connection of its own: whoever kept one may have left.
    text = httpx2.get(f"{sequencer.url}/metrics", timeout=10).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    workers = {int(one.labels["pid"]) for one in samples if one.name == "process_start_time_seconds"}
    return {one.name: one.value for one in samples if not one.labels}, workers


def scrape_when(sequencer: Sequencer, holds: Callable[[Scrape, set[int]], bool]) -> tuple[Scrape, set[int]]:
    deadline = time.monotonic() + 40
    while not holds(*(found := scrape(sequencer))):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def is_whole(told: Scrape, workers: set[int]) -> bool:
    return told["service_ready"] == len(workers) == 2


@pytest.mark.slow
def test_it_hears_of_workers_that_die_and_of_a_service_that_starts_and_of_no_replacement(
    start_sequencer: StartSequencer,
) -> None:
    environment = {"UVICORN_WORKERS": "2", "SEQUENCER_LANE_WORKERS": "1", "SEQUENCER_PERSISTENCE": "memory"}
    sequencer = start_sequencer(**environment)
    begun, workers = scrape_when(sequencer, is_whole)
    sequencer.service.send(signal.SIGHUP)
    replaced, new = scrape_when(sequencer, lambda told, found: not found & workers and is_whole(told, found))
    assert replaced["service_starts_total"] == 4
    assert grown(RESTARTS, [begun, replaced]) == 0

    os.kill(min(new), signal.SIGKILL)
    healed, _ = scrape_when(sequencer, lambda told, found: min(new) not in found and is_whole(told, found))
    assert grown(RESTARTS, [begun, replaced, healed]) == 1

    assert sequencer.service.stop() == 0
    again, _ = scrape_when(start_sequencer(**environment), is_whole)
    assert grown(RESTARTS, [healed, again]) == 1
