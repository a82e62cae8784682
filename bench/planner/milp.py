"""Solves what `optima.json` lacks: `python -m bench.planner.milp [seconds per case]`.

Cases that an earlier run gave less time and did not prove are solved again.
"""

import sys
from dataclasses import replace

from bench.planner.cases import Case, cases
from bench.planner.optima import Optimum, read_optima, write_optima
from bench.planner.proof import optimum

SECONDS_PER_CASE = 30.0


def main(seconds: float = SECONDS_PER_CASE) -> None:
    """Solve case by case, and keep each result as it comes."""
    optima = read_optima()
    for case in cases():
        known = optima.get(case.id)
        if not _is_done(case, known, seconds):
            found = optima[case.id] = _joined(optimum(case.problem, seconds), known)
            write_optima(optima)
            print(case.id, f"{found.score:.7f} gap {found.gap:.1e} in {found.proof_seconds:.1f} s", flush=True)


def _is_done(case: Case, known: Optimum | None, seconds: float) -> bool:
    return known is not None and known.problem == case.problem and (known.is_proved or known.proof_seconds >= seconds)


def _joined(found: Optimum, known: Optimum | None) -> Optimum:
    """Return the better plan of two runs, and the better bound."""
    if known is None or known.problem != found.problem:
        return found
    better = min(found, known, key=lambda optimum: optimum.score)
    bound = min(better.score, max(found.lower_bound, known.lower_bound))
    return replace(better, lower_bound=bound, proof_seconds=found.proof_seconds)


if __name__ == "__main__":
    main(*(float(argument) for argument in sys.argv[1:]))
