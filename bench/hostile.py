"""What hostile GraphQL documents cost the service, and what healthy clients notice of them.

Targets: 50 ms of the processor's time for each document, the event loop held for at most 100 ms, and the p99 of healthy
clients within 1.25 times of what it is without hostile traffic. The time that the loop is held is that of the worst
`/livez`, which is asked all the while. This process is every client.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from threading import Event
from typing import Any

import httpx2
import uvloop

from bench.figures import at_most, median, percentile
from bench.http import BODIES, PLANS
from bench.http_client import load, post
from bench.service import Server, sequencer

TIMES = 30
PAIRS = 7
SECONDS = 3.0
HEALTHY_CONNECTIONS = 8
HOSTILE_PER_SECOND = 5
# The lane admits by what plans may take: so that all of them are admitted, and none beyond one user's allowance.
HEALTHY_PLANS = {
    **PLANS["plans_of_100_goals"],
    "SEQUENCER_TIMEOUT_MS": "100",
    "SEQUENCER_PRINCIPAL_PLANNING_MS": "1000000000",
}
# Bytes of a body; a newline takes two of them.
LONGEST = 60_000

_STATE = "query($a:GameStateInputType!){calculateThrottleSteps(gameStateInput:$a){throttle}}"


def measure() -> dict[str, Any]:
    """Ask each kind again and again, then healthy clients without and with all kinds in turns."""
    with (
        tempfile.TemporaryDirectory() as folder,
        sequencer(Path(folder), **HEALTHY_PLANS) as server,
    ):
        kinds = {name: _alone(server, body) for name, body in hostile().items()}
        without, beside = _healthy(server)
    ratios = [one / other for one, other in zip(beside, without, strict=True)]
    return {
        "kinds": kinds,
        "cpu_ms": at_most(50, max(kind["cpu_ms"] for kind in kinds.values())),
        "loop_held_ms": at_most(100, max(kind["worst_livez_ms"] for kind in kinds.values())),
        "hostile_per_second": HOSTILE_PER_SECOND,
        "healthy_p99_ms": {"without": without, "beside": beside},
        "healthy_p99_ratio": at_most(1.25, median(ratios)),
    }


def hostile() -> Mapping[str, dict[str, Any]]:
    """Return the bodies, by what is hostile about them."""
    doubling = "".join(f"fragment F{each} on Query{{...F{each + 1} ...F{each + 1}}}" for each in range(37))
    nested: Any = {}
    for _ in range(400):
        nested = {"playerUnits": nested}
    documents = {
        "doubling fragments": f"{{...F0}}{doubling}fragment F37 on Query{{version{{name}}}}",
        "a cycle of fragments": f"{{...F0}}{doubling}fragment F37 on Query{{...F0}}",
        "repeated fields": "{" + "version{name}" * 97 + "}",
        "aliases": "{" + " ".join(f"a{each}:version{{name}}" for each in range(65)) + "}",
        "names nobody knows": "{version{" + " ".join(f"nam{each}" for each in range(190)) + "}}",
        "directives": "{version{name" + "@skip(if:false)" * 64 + "}}",
        "tokens": "{version{" + "name " * 12_000 + "}}",
        "nested selections": "{version" * 190 + "}" * 190,
        "nested lists": "{version(a:" + "[" * 180 + "]" * 180 + "){name}}",
        "open braces": "{" * 60_000,
        "nested introspection": "{__schema{types{" + "fields{type{" * 60 + "name" + "}" * 123,
        "commas": "{version{name" + "," * LONGEST + "}}",
        "lines before errors": "{version{" + "\n" * (LONGEST // 2) + "nope " * 19 + "}}",
        "comments": "#\n" * (LONGEST // 3) + "{version{name}}",
        "a string": '{version(a:"' + "a" * LONGEST + '"){name}}',
        "a block": '{version(a:"""' + "a\n " * (LONGEST // 4) + '"""){name}}',
        "an integer": "{version(a:" + "1" * LONGEST + "){name}}",
        "a name": "{" + "a" * LONGEST + "}",
    }
    return {name: {"query": query} for name, query in documents.items()} | {
        "nested variables": {"query": _STATE, "variables": {"a": nested}},
        "unknown fields in variables": {"query": _STATE, "variables": {"a": {f"a{each}": 1 for each in range(4000)}}},
        "unknown variables": {"query": "{version{name}}", "variables": {f"a{each}": each for each in range(4000)}},
    }


def _alone(server: Server, body: dict[str, Any]) -> dict[str, float]:
    """Ask one kind some times, one after the other; what is answered is left to the tests."""
    over, waited = Event(), list[float]()
    with ThreadPoolExecutor(1) as threads, httpx2.Client(base_url=server.url, timeout=30) as client:
        client.post("/graphql", json=body)
        prober = threads.submit(_probe, server, over, waited)
        server.wait_until_idle()
        before = server.cpu_s
        for _ in range(TIMES):
            client.post("/graphql", json=body)
        used_ms = (server.cpu_s - before) * 1000
        over.set()
        prober.result()
    return {"cpu_ms": round(used_ms / TIMES, 1), "worst_livez_ms": round(max(waited), 1)}


def _probe(server: Server, over: Event, waited: list[float]) -> None:
    with httpx2.Client(base_url=server.url) as client:
        while not over.wait(0.02):
            asked = time.perf_counter()
            client.get("/livez").raise_for_status()
            waited.append((time.perf_counter() - asked) * 1000)


def _healthy(server: Server) -> tuple[list[float], list[float]]:
    """Return the p99 of healthy clients, without hostile ones and beside them, pair by pair."""
    healthy = post(*BODIES["graphql"])
    bodies = cycle([post("/graphql", body) for body in hostile().values()])

    async def without() -> float:
        return percentile((await load(server.port, healthy, HEALTHY_CONNECTIONS, SECONDS)).taken_ms, 99)

    async def beside() -> float:
        attacking = asyncio.create_task(_attack(server.port, bodies))
        try:
            return await without()
        finally:
            attacking.cancel()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(without())  # the first round warms up what the others find warm
        pairs = [(runner.run(without()), runner.run(beside())) for _ in range(PAIRS)]
    return [one for one, _ in pairs], [other for _, other in pairs]


async def _attack(port: int, bodies: Iterator[bytes]) -> None:
    while True:
        await asyncio.sleep(1 / HOSTILE_PER_SECOND)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(next(bodies))
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
