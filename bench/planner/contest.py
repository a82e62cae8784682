"""Our path finders and public optimisers, on the same cases in the same run."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from throttling_sequencer.domain.genetic_path import GeneticConfiguration, GeneticPathFinder
from throttling_sequencer.domain.navigation import Budget, PathFinder, PlanningProblem
from throttling_sequencer.domain.random_path import RandomPathFinder

from bench.figures import at_least
from bench.planner.gaps import SMALLEST_GAP, gap, summary
from bench.planner.optima import Optimum
from bench.planner.peers import PEERS, Race

OWN_BUDGETS_MS = (5, 20, 50, 200, 1000)
PEER_BUDGETS_MS = (50, 200, 1000)
SEED = 1

# Answers with the score known after so many milliseconds.
Contestant = Callable[[PlanningProblem], Mapping[int, float]]


def contest(optima: Sequence[Optimum]) -> dict[str, Any]:
    """Let each contestant plan each case, another one first each time."""
    contestants = _contestants()
    gaps: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    names = list(contestants)
    for number, optimum in enumerate(optima):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            for budget, score in contestants[name](optimum.problem).items():
                gaps[name][budget].append(gap(score, optimum))
    figures = {name: {str(budget): summary(values) for budget, values in gaps[name].items()} for name in names}
    return {"cases": len(optima), "gap": figures, "best_peer_beside_ours": _best_peer_beside_ours(figures)}


def _contestants() -> dict[str, Contestant]:
    finders: dict[str, PathFinder] = {
        "genetic": GeneticPathFinder(GeneticConfiguration()),
        "random": RandomPathFinder(),
    }
    contestants: dict[str, Contestant] = {name: partial(_searched, finder) for name, finder in finders.items()}
    for name, peer in PEERS.items():
        contestants[f"{name} plain"] = partial(_raced, peer, is_seeded=False)
        contestants[f"{name} seeded"] = partial(_raced, peer, is_seeded=True)
    return contestants


def _searched(finder: PathFinder, problem: PlanningProblem) -> Mapping[int, float]:
    return {budget: finder.find_path(problem, Budget(budget, SEED)).score for budget in OWN_BUDGETS_MS}


def _raced(peer: Callable[[Race], None], problem: PlanningProblem, *, is_seeded: bool) -> Mapping[int, float]:
    race = Race(problem, PEER_BUDGETS_MS[-1] / 1000, SEED, is_seeded=is_seeded)
    peer(race)
    return {budget: race.best_after(budget / 1000) for budget in PEER_BUDGETS_MS}


def _best_peer_beside_ours(gaps: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Compare the middle gap of the best plain peer after 1 s with ours after 50 ms."""
    best = min((name for name in gaps if name.endswith(" plain")), key=lambda name: gaps[name]["1000"]["p50"])
    theirs, ours = gaps[best]["1000"]["p50"], gaps["genetic"]["50"]["p50"]
    return {
        "peer": best.removesuffix(" plain"),
        "p50_at_1000_ms": theirs,
        "our_p50_at_50_ms": ours,
        "ratio": at_least(20.0, round(theirs / max(ours, SMALLEST_GAP), 1)),
        "seeded_p50_at_1000_ms": gaps[best.replace("plain", "seeded")]["1000"]["p50"],
    }
