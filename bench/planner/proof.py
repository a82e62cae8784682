"""The best plan of any length, and the proof that none is better, by mixed-integer programming."""

import time
from collections.abc import Iterator
from itertools import islice

from throttling_sequencer.domain.genetic_path.candidates import constructive_candidates
from throttling_sequencer.domain.genetic_path.linear_model import LinearModel
from throttling_sequencer.domain.navigation import PlanningProblem
from throttling_sequencer.domain.physics import score_parts

from bench.planner.optima import Optimum
from bench.planner.program import Program

# A better plan is looked for only where it is better by this much.
_WORTHWHILE = 2e-6
_MOST_CANDIDATES = 1000
_SECONDS_PER_LENGTH = 1.0
_PATIENCE_GROWS = 8.0


def optimum(problem: PlanningProblem, seconds: float) -> Optimum:
    """Solve every length whose relaxation may hide a better plan, most promising first, for so long at most."""
    begun = time.perf_counter()
    search = _Search(problem, begun + seconds)
    search.run()
    score, throttles = search.best
    return Optimum(problem, throttles, score, search.lower_bound, round(time.perf_counter() - begun, 3))


class _Search:
    """What is known about each length, and the best plan of all."""

    def __init__(self, problem: PlanningProblem, deadline: float) -> None:
        self._problem = problem
        self._deadline = deadline
        candidates = islice(constructive_candidates(LinearModel(problem)), _MOST_CANDIDATES)
        self.best = min((score_parts(problem, plan).total, tuple(plan)) for plan in candidates)
        self._bounds = {program: program.relaxed() for program in _programs(problem)}

    def run(self) -> None:
        """Give each length a little time, and the hard ones more in the next rounds."""
        seconds = _SECONDS_PER_LENGTH
        while (promising := self._promising()) and not self._is_over:
            for program in promising:
                if self._may_be_better(program) and not self._is_over:
                    self._solve(program, seconds)
            seconds *= _PATIENCE_GROWS

    @property
    def lower_bound(self) -> float:
        return min(self.best[0], *self._bounds.values())

    @property
    def _cutoff(self) -> float:
        return self.best[0] - _WORTHWHILE

    @property
    def _is_over(self) -> bool:
        return time.perf_counter() >= self._deadline

    def _promising(self) -> list[Program]:
        return sorted(filter(self._may_be_better, self._bounds), key=self._bounds.__getitem__)

    def _may_be_better(self, program: Program) -> bool:
        return self._bounds[program] < self._cutoff

    def _solve(self, program: Program, seconds: float) -> None:
        left = max(0.1, self._deadline - time.perf_counter())
        bound, throttles = program.solve(self._cutoff, min(seconds, left))
        # A program that has no plan below the cutoff says nothing about those above.
        self._bounds[program] = max(self._bounds[program], min(bound, self._cutoff))
        if throttles:
            self.best = min(self.best, (score_parts(self._problem, throttles).total, throttles))


def _programs(problem: PlanningProblem) -> Iterator[Program]:
    """Yield a program for each length, and another for ending backwards, where the speed costs more all at once."""
    for length in range(1, problem.objective.max_sequence_length + 1):
        yield Program(problem, length, ends_backwards=False)
        if problem.speed < 0.0 or problem.objective.throttle_range[0] < 0:
            yield Program(problem, length, ends_backwards=True)
