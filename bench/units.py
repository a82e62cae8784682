"""How long plans of many units take, and what GraphQL adds to one.

Targets: 1,000 units in one plan with `optimal` in 3 s at most, while `/livez` answers within 100 ms; a plan over
GraphQL in three times the time that it takes over REST.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from throttling_sequencer.domain.navigation import PlanningProblem

from bench.figures import at_most, median, percentile
from bench.planner.cases import OTHER_OBJECTIVES, cases
from bench.service import GAME_STATE, running_sequencer

UNITS = 1000
ROUNDS = 5
CALLS = 100
_PLAN = "/api/v1/throttle/plan"
_QUERY = """query ($state: GameStateInputType!, $targets: [Int!]) {
  planThrottle(gameStateInput: $state, targets: $targets, strategy: "optimal", budgetMs: 3000) {
    unit target strategy throttles score scoreParts { distance speed length nonzero } lowerBound gap finalSpeed
    distanceCovered generations seed elapsedMs
  }
}"""


def measure() -> dict[str, Any]:
    """Ask for a thousand units and probe meanwhile; then for one unit, over REST and GraphQL in turn; milliseconds."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_sequencer(Path(folder), API_SERVER_GRAPHQL_BODY_LIMIT=str(2**20)) as url,
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        # Until the planning processes are warm.
        time.sleep(5)
        state, targets = _units()
        rest = [_probed(url, lambda: _over_rest(client, state, targets)) for _ in range(ROUNDS)]
        graphql = [_probed(url, lambda: _over_graphql(client, state, targets)) for _ in range(ROUNDS)]
        single = [(_over_rest(client, GAME_STATE, [0]), _over_graphql(client, GAME_STATE, [0])) for _ in range(CALLS)]
    return {
        "thousand_units_rest": _told(rest),
        "thousand_units_graphql": _told(graphql),
        "one_unit_rest_ms": median([one for one, _ in single]),
        "one_unit_graphql_ms": median([other for _, other in single]),
        "graphql_to_rest": at_most(3.0, median([other / one for one, other in single])),
    }


def _units() -> tuple[dict[str, Any], list[int]]:
    """Return problems of all kinds side by side, each unit with a target of its own."""
    problems: list[PlanningProblem] = []
    seed = 1
    while len(problems) < UNITS:
        problems += [case.problem for case in cases(seed=seed) if not case.id.startswith(OTHER_OBJECTIVES)]
        seed += 1
    players, enemies = [], []
    for row, problem in enumerate(problems[:UNITS]):
        body = {"speed": problem.speed, "mass": problem.mass, "friction": problem.friction}
        players.append({"coordinate": {"x": 0.0, "y": float(row)}, **body})
        enemies.append({"coordinate": {"x": problem.distance, "y": float(row)}, **body})
    return {"player_units": players, "enemy_units": enemies}, list(range(UNITS))


def _over_rest(client: httpx2.Client, state: dict[str, Any], targets: list[int]) -> float:
    body = {**state, "targets": targets, "strategy": "optimal", "budget_ms": 3000}
    asked = time.perf_counter()
    plans = client.post(_PLAN, json=body).raise_for_status().json()["plans"]
    elapsed = time.perf_counter() - asked
    assert len(plans) == len(targets)
    return elapsed * 1000


def _over_graphql(client: httpx2.Client, state: dict[str, Any], targets: list[int]) -> float:
    variables = {
        "state": {"playerUnits": state["player_units"], "enemyUnits": state["enemy_units"]},
        "targets": targets,
    }
    asked = time.perf_counter()
    answer = client.post("/graphql", json={"query": _QUERY, "variables": variables}).raise_for_status().json()
    elapsed = time.perf_counter() - asked
    assert len(answer["data"]["planThrottle"]) == len(targets), answer
    return elapsed * 1000


def _probed(url: str, call: Callable[[], float]) -> tuple[float, list[float]]:
    with _probing(url) as times:
        return call(), times


@contextmanager
def _probing(url: str) -> Iterator[list[float]]:
    times: list[float] = []
    is_over = threading.Event()

    def probe() -> None:
        with httpx2.Client(base_url=url) as client:
            while not is_over.wait(0.005):
                asked = time.perf_counter()
                client.get("/livez").raise_for_status()
                times.append((time.perf_counter() - asked) * 1000)

    prober = threading.Thread(target=probe)
    prober.start()
    try:
        yield times
    finally:
        is_over.set()
        prober.join()


def _told(rounds: list[tuple[float, list[float]]]) -> dict[str, Any]:
    probes = [ms for _, times in rounds for ms in times]
    return {
        "ms": at_most(3000, median([elapsed for elapsed, _ in rounds], 0)),
        "livez_max_ms": at_most(100, round(max(probes), 1)),
        "livez_p99_ms": percentile(probes, 99),
    }
