"""The committed optima: each case's best plan with its bound, and what they were computed with."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from throttling_sequencer.domain.navigation import Objective, PlanningProblem

OPTIMA = Path(__file__).with_name("optima.json")
# How far below the score the bound may be for a case to count as proved.
PROVED_WITHIN = 1e-5


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best plan known of a problem, and the score that no plan can be below."""

    problem: PlanningProblem
    throttles: tuple[int, ...]
    score: float
    lower_bound: float
    proof_seconds: float

    @property
    def gap(self) -> float:
        return self.score - self.lower_bound

    @property
    def is_proved(self) -> bool:
        return self.gap <= PROVED_WITHIN


def read_optima() -> dict[str, Optimum]:
    """Return the optima by the id of their case."""
    if not OPTIMA.exists():
        return {}
    return {name: _optimum(**document) for name, document in json.loads(OPTIMA.read_text())["optima"].items()}


def write_optima(optima: Mapping[str, Optimum]) -> None:
    """Write them, a case a line."""
    head = {"solver": "HiGHS", "highspy": version("highspy"), "proved_within": PROVED_WITHIN}
    head |= {"cases": len(optima), "proved": sum(optimum.is_proved for optimum in optima.values())}
    lines = (f"{json.dumps(name)}: {json.dumps(_document(optimum))}" for name, optimum in sorted(optima.items()))
    text = f'{json.dumps(head)[:-1]}, "optima": {{\n' + ",\n".join(lines) + "\n}}\n"
    # Never half a file: it took long.
    draft = OPTIMA.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(OPTIMA)


def _document(optimum: Optimum) -> dict[str, Any]:
    return {**asdict(optimum), "proved": optimum.is_proved}


def _optimum(problem: dict[str, Any], throttles: list[int], **rest: Any) -> Optimum:  # noqa: ANN401 - read from JSON
    del rest["proved"]
    objective = problem.pop("objective")
    objective["throttle_range"] = tuple(objective["throttle_range"])
    return Optimum(PlanningProblem(**problem, objective=Objective(**objective)), tuple(throttles), **rest)
