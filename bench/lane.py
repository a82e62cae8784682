"""What a sequencer does at four times its capacity, and how soon a client that leaves frees its place.

Targets: `/livez` with a p99 of at most 50 ms, and never more than 100 ms, which is how late the event loop is; every
plan answered by its deadline (what it may wait, and its budget) and half a second, or refused at once; the place of a
client that leaves free within 200 ms. Plans use up their budgets, of 20 ms to a second; a quarter of them are of many
units, for which all planning processes work. The processes, the server and the client share the machine.
"""

import asyncio
import os
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import uvloop

from bench.figures import at_most, median, percentile
from bench.http_client import post
from bench.service import GAME_STATE, sequencer

TIMES_CAPACITY = 4
SECONDS = 10.0
WAITING_MS = 1000
BUDGETS_MS = (20, 100, 300, 1000)
MANY = 50
LEAVING_ROUNDS = 20

_PATH = "/api/v1/throttle/plan"
_WORKERS = os.cpu_count() or 1
_SETTINGS = {
    # So that it is the budget that ends a search.
    "SEQUENCER_GENERATIONS": "1000000",
    "SEQUENCER_LANE_WAITING_MS": str(WAITING_MS),
    # So that it is the lane that refuses, and not what one user may have.
    "SEQUENCER_PRINCIPAL_PLANNING_MS": "1000000000",
}
_PROBE_PAUSE_S = 0.005
_REFUSED = 503
_SETTLING_S = 0.1

T = TypeVar("T")


def measure() -> dict[str, Any]:
    """Load one sequencer, and leave another one again and again."""
    with tempfile.TemporaryDirectory() as folder:
        with sequencer(Path(folder), **_SETTINGS) as server:
            loaded = _run(_loaded(server.port))
        with sequencer(Path(folder), **_SETTINGS, SEQUENCER_LANE_WAITING="0") as server:
            freed_ms = _run(_left(server.port))
    return {
        "livez_ms": {"p99": at_most(50, percentile(loaded.livez_ms, 99)), "max": at_most(100, max(loaded.livez_ms))},
        "late_ms": {"p50": median(loaded.late_ms, 0), "max": at_most(500, max(loaded.late_ms))},
        "refused_after_ms": {
            "p99": at_most(50, percentile(loaded.refused_ms, 99)),
            "max": round(max(loaded.refused_ms), 1),
        },
        "answers": {str(status): number for status, number in sorted(loaded.answers.items())},
        "share_refused": round(loaded.answers[_REFUSED] / loaded.answers.total(), 2),
        "freed_after_ms": {"p50": median(freed_ms, 1), "max": at_most(200, round(max(freed_ms), 1))},
    }


@dataclass(slots=True)
class _Loaded:
    """What came of the load."""

    livez_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    """By how much the others were later than asked + what they may wait + their budget; mostly negative."""
    answers: Counter[int] = field(default_factory=Counter)


async def _loaded(port: int) -> _Loaded:
    # The processes get warm when there is nothing to do.
    await asyncio.sleep(5)
    await _status(port)
    loaded, random = _Loaded(), Random(4)
    probing = asyncio.create_task(_probe(port, loaded))
    plans = []
    ends = time.perf_counter() + SECONDS
    while time.perf_counter() < ends:
        budget_ms, units = random.choice(BUDGETS_MS), random.choice((1, 1, 1, MANY))
        plans.append(asyncio.create_task(_plan(port, budget_ms, units, loaded)))
        takes_ms = budget_ms / _WORKERS if units == 1 else budget_ms
        await asyncio.sleep(takes_ms / 1000 / TIMES_CAPACITY)
    await asyncio.gather(*plans)
    probing.cancel()
    return loaded


async def _probe(port: int, loaded: _Loaded) -> None:
    request = b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
    async with _connected(port) as (reader, writer):
        while True:
            asked = time.perf_counter()
            writer.write(request)
            await _answered(reader)
            loaded.livez_ms.append(round((time.perf_counter() - asked) * 1000, 2))
            await asyncio.sleep(_PROBE_PAUSE_S)


async def _plan(port: int, budget_ms: int, units: int, loaded: _Loaded) -> None:
    asked = time.perf_counter()
    async with _connected(port) as (reader, writer):
        writer.write(_request(budget_ms, units))
        status = await _answered(reader)
    taken_ms = (time.perf_counter() - asked) * 1000
    loaded.answers[status] += 1
    if status == _REFUSED:
        loaded.refused_ms.append(taken_ms)
    else:
        loaded.late_ms.append(round(taken_ms - WAITING_MS - budget_ms, 1))


async def _left(port: int) -> list[float]:
    await _status(port)
    return [await _leave(port) for _ in range(LEAVING_ROUNDS)]


async def _leave(port: int) -> float:
    """Fill the lane, leave it, and return after how many milliseconds who came first was let in."""
    async with _connected(port) as (_, writer):
        writer.write(_request(10_000, MANY))
        await asyncio.sleep(_SETTLING_S)
        if await _status(port) != _REFUSED:
            raise AssertionError("the lane is not full")
        # Reset rather than closed, as by a client that is killed.
        writer.transport.abort()
        left = time.perf_counter()
        while True:
            asked = time.perf_counter()
            if await _status(port) != _REFUSED:
                return (asked - left) * 1000


async def _status(port: int) -> int:
    async with _connected(port) as (reader, writer):
        writer.write(_request(1, 1))
        return await _answered(reader)


def _request(budget_ms: int, units: int) -> bytes:
    state = {**GAME_STATE, "player_units": GAME_STATE["player_units"][:1] * units}
    return post(_PATH, {**state, "budget_ms": budget_ms})


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _answered(reader: asyncio.StreamReader) -> int:
    """Read an answer to its end, and return its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    await reader.readexactly(int(fields[b"content-length"]))
    return int(head.split(b" ", 2)[1])


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)
