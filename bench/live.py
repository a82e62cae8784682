"""How many messages subscriptions bring, how late and at what price in memory, beside plain Strawberry.

Targets: at least 0.8 of the messages of a plain Strawberry subscription of the same value, at 1, 32 and 256
subscribers; 256 subscribers at 10 messages a second each with a p99 of lateness of at most 100 ms; at most 100 KB a
subscriber. The sequencer has identity, ids, log context, its request log and a real PostgreSQL on, and its plans are
cheap. A bare broadcast of the same text shows what uvicorn itself would do. This process is the client.
"""

import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from bench.figures import at_least, at_most, median, percentile, ratio
from bench.service import GAME_STATE, Server, bare_server, sequencer
from bench.socket_client import subscribed

SUBSCRIBERS = (1, 32, 256)
ROUNDS = 5
SECONDS = 0.5
PACED_ROUNDS = 3
PACED_SECONDS = 2.0
INTERVAL_MS = 100
LONG_PLAN, USUAL_PLAN = 300, 100

T = TypeVar("T")

_SETTINGS = {
    "PICCOLO_DB_RUN_MIGRATIONS": "true",
    "SEQUENCER_GENERATIONS": "1",
    "SEQUENCER_TIMEOUT_MS": "1",
    "SEQUENCER_LANE_WAITING": "512",
    # All subscribers are one user.
    "API_SERVER_GRAPHQL_PRINCIPAL_SOCKETS": "512",
}
_GOAL = "{ coordinate { x y } throttle }"
# Out of reach, so that the plan is as long as one may be.
_FAR = [{**GAME_STATE["enemy_units"][0], "coordinate": {"x": 1e6, "y": 0.0}}]
_OURS = {
    "query": f"subscription ($state: GameStateInputType!) {{ generateSteps(gameStateInput: $state) {_GOAL} }}",
    "variables": {"state": {"playerUnits": GAME_STATE["player_units"], "enemyUnits": _FAR}},
}
_PLAIN = {"query": f"subscription {{ generateSteps {_GOAL} }}"}
_PAYLOADS = {"sequencer": _OURS, "plain": _PLAIN, "broadcast": _PLAIN}


def measure() -> dict[str, Any]:
    """Count in turns with all three servers up, first as fast as they can, then at their pace."""
    with tempfile.TemporaryDirectory() as folder:
        with _servers(Path(folder), interval_ms=0, items=LONG_PLAN) as servers:
            as_fast_as_possible = _counted(servers)
        with _servers(Path(folder), interval_ms=INTERVAL_MS, items=USUAL_PLAN) as servers:
            paced = _paced(servers)
    return {"as_fast_as_possible": as_fast_as_possible, f"{SUBSCRIBERS[-1]}_times_10_per_s": paced}


@contextmanager
def _servers(folder: Path, *, interval_ms: int, items: int) -> Iterator[dict[str, Server]]:
    lengths = {"SEQUENCER_MAX_SEQUENCE_LENGTH": str(items), "SEQUENCER_STEP_INTERVAL_MS": str(interval_ms)}
    bare = {"PLAIN_ITEMS": str(items), "PLAIN_INTERVAL_MS": str(interval_ms)}
    with (
        sequencer(folder, **_SETTINGS, **lengths) as ours,
        bare_server("bench.bare_live:plain", folder, **bare) as plain,
        bare_server("bench.bare_live:broadcast", folder, **bare) as broadcast,
    ):
        yield {"sequencer": ours, "plain": plain, "broadcast": broadcast}


@dataclass(slots=True)
class _Counts:
    """What one server did, round by round."""

    per_second: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    client_share: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        return {
            "messages_per_s": median(self.per_second, 0),
            "server_cpu_us": median(self.cpu_us, 1),
            "client_share_of_a_core": median(self.client_share),
        }


def _counted(servers: Mapping[str, Server]) -> dict[str, Any]:
    figures = {}
    for subscribers in SUBSCRIBERS:
        counts: Mapping[str, _Counts] = defaultdict(_Counts)
        for number in range(ROUNDS):
            turns = list(servers.items())
            for name, server in turns if number % 2 else reversed(turns):
                _run(server, _count(server, _PAYLOADS[name], subscribers, counts[name]))
        ours, plain = counts["sequencer"], counts["plain"]
        figures[str(subscribers)] = {
            "ratio": at_least(0.8, ratio(ours.per_second, plain.per_second)),
            # Of the two processes alone: what else runs on the machine has less of a say in it.
            "ratio_of_cpu": ratio(plain.cpu_us, ours.cpu_us),
            **{name: counts[name].figures() for name in servers},
        }
    return figures


async def _count(server: Server, payload: object, number: int, counts: _Counts) -> None:
    async with subscribed(server.port, payload, number) as subscribers:
        before = sum(subscriber.messages for subscriber in subscribers)
        begun, cpu_s, own_cpu_s = time.perf_counter(), server.cpu_s, time.process_time()
        await asyncio.sleep(SECONDS)
        messages = sum(subscriber.messages for subscriber in subscribers) - before
        taken = time.perf_counter() - begun
        counts.per_second.append(messages / taken)
        counts.cpu_us.append((server.cpu_s - cpu_s) / messages * 1e6)
        counts.client_share.append((time.process_time() - own_cpu_s) / taken)


def _paced(servers: Mapping[str, Server]) -> dict[str, Any]:
    rounds: Mapping[str, list[_Pace]] = defaultdict(list)
    growth_kb: dict[str, float] = {}
    for name, server in servers.items():
        # So that what the first of all makes the server load is not counted as a subscriber's.
        _run(server, _follow(server, _PAYLOADS[name], number=8, seconds=0.5))
        before = server.resident_kb
        rounds[name].append(_run(server, _follow(server, _PAYLOADS[name], SUBSCRIBERS[-1], PACED_SECONDS)))
        growth_kb[name] = round((rounds[name][0].resident_kb - before) / SUBSCRIBERS[-1], 1)
    for _ in range(PACED_ROUNDS - 1):
        for name, server in servers.items():
            rounds[name].append(_run(server, _follow(server, _PAYLOADS[name], SUBSCRIBERS[-1], PACED_SECONDS)))
    return {
        "late_p99_ms": at_most(100, median([pace.late_p99_ms for pace in rounds["sequencer"]])),
        "kb_per_subscriber": at_most(100, growth_kb["sequencer"]),
        **{name: {**_summary(rounds[name]), "kb_per_subscriber": growth_kb[name]} for name in servers},
    }


@dataclass(frozen=True, slots=True)
class _Pace:
    """How one round kept to the pace."""

    messages_per_s: float
    late_p99_ms: float
    """After the first message of a subscription plus so many intervals."""
    behind_p99_ms: float
    """The same from whichever message of a subscription was the most punctual: nothing is early by this measure."""
    gap_deviation_p99_ms: float
    resident_kb: float


async def _follow(server: Server, payload: object, number: int, seconds: float) -> _Pace:
    async with subscribed(server.port, payload, number) as subscribers:
        before = sum(subscriber.messages for subscriber in subscribers)
        await asyncio.sleep(seconds)
        messages = sum(subscriber.messages for subscriber in subscribers) - before
        resident_kb = server.resident_kb
    subscriptions = [arrivals for subscriber in subscribers for arrivals in subscriber.arrivals if arrivals]
    early = [_against_the_schedule_ms(arrivals) for arrivals in subscriptions]
    gaps = [abs((later - earlier) * 1000 - INTERVAL_MS) for each in subscriptions for earlier, later in pairwise(each)]
    return _Pace(
        messages / seconds,
        percentile([late for each in early for late in each], 99),
        percentile([late - min(each) for each in early for late in each], 99),
        percentile(gaps, 99),
        resident_kb,
    )


def _against_the_schedule_ms(arrivals: Sequence[float]) -> list[float]:
    return [(arrival - arrivals[0]) * 1000 - number * INTERVAL_MS for number, arrival in enumerate(arrivals)]


def _summary(rounds: Sequence[_Pace]) -> dict[str, Any]:
    return {
        "messages_per_s": median([pace.messages_per_s for pace in rounds], 0),
        "late_p99_ms": [pace.late_p99_ms for pace in rounds],
        "behind_p99_ms": [pace.behind_p99_ms for pace in rounds],
        "gap_deviation_p99_ms": [pace.gap_deviation_p99_ms for pace in rounds],
    }


def _run(server: Server, coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(coroutine)
    server.wait_until_idle()
    return result
