"""How good plans are, beside proven optima and public optimisers, and how long they take.

Targets: `optimal` within 0.001 of the optimum on 99 % of the cases, in 1 ms at the median; `genetic` at a gap of 0.01
at the median after 50 ms, and the best public optimiser after 1 s at 20 times that at least. The optima are those of
`optima.json`, some of which are proven anew in each run.
"""

import gc
from random import Random
from typing import Any

from bench.planner.cases import OTHER_OBJECTIVES, cases
from bench.planner.contest import contest
from bench.planner.optima import PROVED_WITHIN, Optimum, read_optima
from bench.planner.own import genetic, optimal
from bench.planner.proof import optimum
from bench.planner.report import draw, write_page

CONTEST_CASES = 40
PROVED_ANEW = 6
_SECONDS_FOR_A_PROOF = 20.0
_QUICK_PROOF_SECONDS = 3.0


def measure(contest_cases: int = CONTEST_CASES, own_cases: int | None = None) -> dict[str, Any]:
    """Judge our path finders on all proven cases (or so many), and public optimisers beside them on a sample."""
    optima = read_optima()
    # As in a planning process: what the peers load is not looked through again while a search runs.
    gc.collect()
    gc.freeze()
    proved = {case.id: optima[case.id] for case in cases() if case.id in optima and optima[case.id].is_proved}
    shuffled = Random(1).sample(list(proved), len(proved))
    usual = [proved[name] for name in shuffled if not name.startswith(OTHER_OBJECTIVES)]
    others = [proved[name] for name in shuffled if name.startswith(OTHER_OBJECTIVES)]
    figures = {
        "cases": {"made": len(optima), "proved": len(proved), "unproved": len(optima) - len(proved)},
        "optimal": optimal([proved[name] for name in shuffled][:own_cases]),
        "genetic": genetic(usual[:own_cases]),
        "genetic_of_other_objectives": genetic(others[:own_cases]),
        "contest": contest(usual[:contest_cases]),
        "proved_anew": _proved_anew(list(proved.values())),
    }
    draw(figures)
    write_page(figures)
    return figures


def _proved_anew(optima: list[Optimum]) -> dict[str, Any]:
    """Solve some that do not take long, others in each run, and compare."""
    quick = [known for known in optima if known.proof_seconds <= _QUICK_PROOF_SECONDS]
    sample = Random().sample(quick, min(PROVED_ANEW, len(quick)))
    anew = [optimum(known.problem, _SECONDS_FOR_A_PROOF) for known in sample]
    agreeing = sum(
        new.is_proved and abs(new.score - known.score) <= PROVED_WITHIN for new, known in zip(anew, sample, strict=True)
    )
    return {"cases": len(sample), "agreeing": agreeing, "seconds": round(sum(new.proof_seconds for new in anew), 1)}
