"""What telemetry costs a REST plan: none of the traces recorded, 1, 10 and 100 %, and all of them for a dead collector.

Target (F22): with a collector that is a black hole, the slowest 1 % wait at most 2 % longer than with one that takes
what is sent. The other figures are ratios to a service without telemetry that was loaded right before or after. The
plans take a planning process next to nothing, so that a span weighs as much as it can; this process is the client.
"""

import asyncio
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from bench.collectors import black_hole
from bench.figures import at_most, median, percentile, ratio
from bench.http import BODIES, PLANS
from bench.http_client import load, post
from bench.service import Server, bare_server, sequencer

ROUNDS = 21
SECONDS = 0.5
CONNECTIONS = 8
RATIOS = {"0_percent": "0", "1_percent": "0.01", "10_percent": "0.1", "100_percent": "1"}
DEAD = "100_percent_to_a_black_hole"
ASKED_P99 = 1.02


def measure() -> dict[str, Any]:
    """Load a service with telemetry and one without in turns, for each share of traces that is recorded."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        collector = running.enter_context(bare_server("bench.collectors:sink", folder))
        hole = running.enter_context(black_hole())
        figures = {
            name: _compared(folder / name, {}, _telemetry(collector.url, share)) for name, share in RATIOS.items()
        }
        figures[DEAD] = _compared(folder / DEAD, _telemetry(collector.url, "1"), _telemetry(hole, "1"))
    figures[DEAD]["p99_ratio"] = at_most(ASKED_P99, figures[DEAD]["p99_ratio"])
    return figures


def _telemetry(endpoint: str, share: str) -> Mapping[str, str]:
    return {
        "API_SERVER_TELEMETRY": "otlp",
        "API_SERVER_TELEMETRY_RATIO": share,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
    }


@dataclass(slots=True)
class _Rounds:
    """What one service did, round by round."""

    per_second: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    def add(self, server: Server) -> None:
        before = server.cpu_s
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            done = runner.run(load(server.port, post(*BODIES["rest"]), CONNECTIONS, SECONDS))
        self.per_second.append(len(done.taken_ms) / done.seconds)
        # Of the threads that send spans too.
        self.cpu_ms.append((server.cpu_s - before) * 1000 / len(done.taken_ms))
        self.p50_ms.append(median(done.taken_ms, 3))
        self.p99_ms.append(percentile(done.taken_ms, 99, 3))


def _compared(folder: Path, usual: Mapping[str, str], traced: Mapping[str, str]) -> dict[str, Any]:
    with _service(folder / "usual", usual) as one, _service(folder / "traced", traced) as other:
        before, after = _loaded(one, other)
    return {
        "throughput_ratio": ratio(after.per_second, before.per_second),
        "cpu_ratio": ratio(after.cpu_ms, before.cpu_ms),
        "p50_ratio": ratio(after.p50_ms, before.p50_ms),
        "p99_ratio": ratio(after.p99_ms, before.p99_ms),
        "requests_per_s": median(after.per_second, 0),
        "requests_per_s_beside": median(before.per_second, 0),
        "p99_ms": median(after.p99_ms),
        "p99_ms_beside": median(before.p99_ms),
    }


def _loaded(plain: Server, traced: Server) -> tuple[_Rounds, _Rounds]:
    # Both get warm; of a dead collector the queue fills, which is how it stays.
    _Rounds().add(plain)
    _Rounds().add(traced)
    off, on = _Rounds(), _Rounds()
    for number in range(ROUNDS):
        turns = [(plain, off), (traced, on)]
        for server, rounds in turns if number % 2 else reversed(turns):
            rounds.add(server)
    return off, on


@contextmanager
def _service(folder: Path, telemetry: Mapping[str, str]) -> Iterator[Server]:
    folder.mkdir(parents=True)
    plan = {**PLANS["plans_of_1_goal"], "SEQUENCER_PRINCIPAL_PLANNING_MS": "1000000000"}
    with sequencer(folder, SEQUENCER_PERSISTENCE="memory", **plan, **telemetry) as server:
        yield server
