"""What the stack costs per request, beside bare servers that answer the same.

Targets: REST at least 0.7 of a bare FastAPI route over the same planner in the same lane, GraphQL at least 0.8 of bare
Strawberry. The sequencer has identity, ids, log context, containers, its request log and a real PostgreSQL on; the
plans of the first kind take a planning process about 3 ms and have 100 goals, those of the second next to nothing and
have one, so that they show what the stack costs at worst. This process is the client.
"""

import asyncio
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import uvloop

from bench.figures import at_least, median, percentile, ratio
from bench.http_client import load, post
from bench.service import GAME_STATE, PLAN_PATH, Server, bare_server, sequencer

ROUNDS = 7
SECONDS = 0.4
CONNECTIONS = (1, 8, 32)
ASKED = {"rest": 0.7, "graphql": 0.8}

_SMALL = {
    "SEQUENCER_GENERATIONS": "1",
    "SEQUENCER_BEST_PARENTS": "1",
    "SEQUENCER_WORST_PARENTS": "0",
    # Each request is promised a second, and needs a few milliseconds of it: none of them is to be refused.
    "SEQUENCER_LANE_WAITING_MS": "60000",
}
PLANS = {
    "plans_of_100_goals": {**_SMALL, "SEQUENCER_POPULATION_SIZE": "10"},
    "plans_of_1_goal": {**_SMALL, "SEQUENCER_POPULATION_SIZE": "2", "SEQUENCER_MAX_SEQUENCE_LENGTH": "1"},
}
_QUERY = """query ($state: GameStateInputType!) {
  calculateThrottleSteps(gameStateInput: $state) { coordinate { x y } throttle }
}"""
_VARIABLES = {"playerUnits": GAME_STATE["player_units"], "enemyUnits": GAME_STATE["enemy_units"]}
BODIES = {
    "rest": (PLAN_PATH, GAME_STATE),
    "graphql": ("/graphql", {"query": _QUERY, "variables": {"state": _VARIABLES}}),
}


def measure() -> dict[str, Any]:
    """Load the sequencer and the bare server in turns, by several connections at a time."""
    with tempfile.TemporaryDirectory() as folder:
        figures: dict[str, Any] = {name: _measured(Path(folder), plan) for name, plan in PLANS.items()}
        figures["client_alone"] = _client_alone(Path(folder))
    return figures


@dataclass(slots=True)
class _Rounds:
    """What one server did, round by round."""

    per_second: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    taken_ms: list[float] = field(default_factory=list)

    def add(self, server: Server, request: bytes, connections: int) -> None:
        before = server.cpu_s
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            done = runner.run(load(server.port, request, connections, SECONDS))
        self.per_second.append(len(done.taken_ms) / done.seconds)
        self.cpu_ms.append((server.cpu_s - before) * 1000 / len(done.taken_ms))
        self.taken_ms += done.taken_ms

    def figures(self) -> dict[str, float]:
        return {
            "requests_per_s": median(self.per_second, 0),
            "p50_ms": round(statistics.median(self.taken_ms), 2),
            "p99_ms": percentile(self.taken_ms, 99),
            "server_cpu_ms": median(self.cpu_ms),
        }


def _measured(folder: Path, plan: Mapping[str, str]) -> dict[str, Any]:
    with (
        sequencer(folder, PICCOLO_DB_RUN_MIGRATIONS="true", **plan) as ours,
        bare_server("bench.bare_http:bare", folder, **plan) as bare,
    ):
        figures: dict[str, Any] = {"settings": dict(plan), "goals": _goals(ours, bare)}
        for face, (path, body) in BODIES.items():
            rounds = _loaded(ours, bare, post(path, body))
            figures[face] = {str(number): _compared(face, *rounds[number]) for number in CONNECTIONS}
        _assert_the_request_log_was_written(ours)
    return figures


def _loaded(ours: Server, bare: Server, request: bytes) -> Mapping[int, tuple[_Rounds, _Rounds]]:
    rounds: Mapping[int, tuple[_Rounds, _Rounds]] = defaultdict(lambda: (_Rounds(), _Rounds()))
    for number in range(ROUNDS):
        for connections in CONNECTIONS:
            turns = list(zip((ours, bare), rounds[connections], strict=True))
            for server, results in turns if number % 2 else reversed(turns):
                results.add(server, request, connections)
    return rounds


def _compared(face: str, ours: _Rounds, bare: _Rounds) -> dict[str, Any]:
    return {
        "ratio": at_least(ASKED[face], ratio(ours.per_second, bare.per_second)),
        # Of the two processes alone: what else runs on the machine has less of a say in it.
        "ratio_of_cpu": ratio(bare.cpu_ms, ours.cpu_ms),
        "sequencer": ours.figures(),
        "bare": bare.figures(),
    }


def _goals(ours: Server, bare: Server) -> int:
    """Return how many goals an answer has, which both servers and both faces agree about."""
    numbers = set()
    for server in (ours, bare):
        for path, body in BODIES.values():
            answer = httpx2.post(server.url + path, json=body, timeout=10).raise_for_status().json()
            goals = answer if isinstance(answer, list) else answer["data"]["calculateThrottleSteps"]
            numbers.add(len(goals))
    assert len(numbers) == 1, f"the servers do not answer the same: {numbers}"
    return numbers.pop()


def _assert_the_request_log_was_written(server: Server) -> None:
    query = "{ requestLog(first: 100) { nodes { outcome } } }"
    answer = httpx2.post(f"{server.url}/graphql", json={"query": query}, timeout=10).raise_for_status().json()
    outcomes = [node["outcome"] for node in answer["data"]["requestLog"]["nodes"]]
    assert outcomes == ["SUCCESS"] * 100, f"the request log holds {outcomes}"


def _client_alone(folder: Path) -> dict[str, Any]:
    """Return what the client reaches against an app that does nothing."""
    request = post(*BODIES["rest"])
    with bare_server("bench.bare_http:nothing", folder) as server:
        rounds = {connections: _Rounds() for connections in CONNECTIONS}
        for connections, results in rounds.items():
            results.add(server, request, connections)
    return {str(connections): results.figures() for connections, results in rounds.items()}
