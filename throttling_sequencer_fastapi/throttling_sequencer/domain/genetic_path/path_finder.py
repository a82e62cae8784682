"""The genetic search itself."""

import time
from collections.abc import Iterable
from heapq import nsmallest
from itertools import islice
from random import Random

from throttling_sequencer.domain.genetic_path.candidates import constructive_candidates
from throttling_sequencer.domain.genetic_path.configuration import GeneticConfiguration
from throttling_sequencer.domain.genetic_path.evolution import Evolution
from throttling_sequencer.domain.genetic_path.linear_model import LinearModel
from throttling_sequencer.domain.navigation import Budget, PlanningProblem, Progress, ThrottlePlan, keep_going
from throttling_sequencer.domain.physics import score_parts

# A plan with its score in front, so that plans sort by it; a tuple, so that plans compare quickly.
_Scored = tuple[float, tuple[int, ...]]


class GeneticPathFinder:
    """Elitist and anytime: the best plan never gets lost, and whenever time is up there is one.

    The first population holds a constructive candidate of every length, which are good in all but the last few
    hundredths of distance, and random plans; evolution then trades throttle between steps to close that gap.
    """

    def __init__(self, configuration: GeneticConfiguration) -> None:
        self._configuration = configuration

    def find_path(self, problem: PlanningProblem, budget: Budget, progress: Progress = keep_going) -> ThrottlePlan:
        """Return the best plan found within the budget and the configured generations."""
        deadline = time.monotonic() + budget.timeout_ms / 1000
        search = _Search(self._configuration, problem, Random(budget.seed), deadline)
        search.found_population()
        generation = 0
        while generation < self._configuration.generations and not search.is_over:
            score, throttles = search.population[0]
            if not progress(generation, score, throttles):
                break
            search.evolve()
            generation += 1
        _, throttles = search.population[0]
        return ThrottlePlan(throttles, score_parts(problem, throttles), generations=generation)


class _Search:
    """The state of one search: a population, best first."""

    def __init__(
        self, configuration: GeneticConfiguration, problem: PlanningProblem, random: Random, deadline: float
    ) -> None:
        self._configuration = configuration
        self._random = random
        self._model = LinearModel(problem)
        self._evolution = Evolution(self._model, random)
        self._deadline = deadline
        self.population: list[_Scored] = []

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._deadline

    def found_population(self) -> None:
        """Fill the population with constructive candidates, for up to one half, and with random plans."""
        size = self._configuration.population_size
        candidates = nsmallest(max(1, size // 2), self._scored(constructive_candidates(self._model)))
        strangers = (self._evolution.random_plan() for _ in range(size - len(candidates)))
        self.population = sorted([*candidates, *self._scored(strangers, at_least=0)])

    def evolve(self) -> None:
        """Replace all but the best by their descendants."""
        best = self.population[: self._configuration.best_parents]
        others = self.population[self._configuration.best_parents :]
        parents = best + self._random.sample(others, min(self._configuration.worst_parents, len(others)))
        children = self._scored(self._children(parents), at_least=0)
        room = self._configuration.population_size - len(best)
        self.population = sorted({*best, *islice(children, room)})

    def _children(self, parents: list[_Scored]) -> Iterable[list[int]]:
        rate = self._configuration.mutation_rate
        while True:
            mother, father = self._random.choice(parents), self._random.choice(parents)
            yield self._evolution.child(mother[1], father[1], rate)

    def _scored(self, plans: Iterable[list[int]], at_least: int = 1) -> Iterable[_Scored]:
        """Score plans until the time is up, but at least so many of them."""
        for number, throttles in enumerate(plans):
            if number >= at_least and self.is_over:
                return
            yield self._model.score(throttles), tuple(throttles)
