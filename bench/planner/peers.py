"""Public optimisers on the same problems, each as its documentation uses it for integers.

The genome is the same for all: how many steps, then a throttle for each step of the longest plan; what is behind the
length plays no part. All score a whole population by one numpy expression. Populations are as large as the library's
examples or defaults have them, and operators are the library's own.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pygad
from deap import algorithms, base, tools
from numpy.typing import NDArray
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.config import Config
from pymoo.core.problem import Problem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from scipy.optimize import differential_evolution
from throttling_sequencer.domain.genetic_path.candidates import constructive_candidates
from throttling_sequencer.domain.genetic_path.linear_model import LinearModel
from throttling_sequencer.domain.navigation import PlanningProblem

Genomes = NDArray[np.int64]
Scores = NDArray[np.floating]
_MOST_CANDIDATES = 1000

Config.warnings["not_compiled"] = False


class Race:
    """Scores the genomes of one problem, and notes when a better one was first known."""

    def __init__(self, problem: PlanningProblem, seconds: float, seed: int, *, is_seeded: bool) -> None:
        self._begun = time.perf_counter()
        self._seconds = seconds
        self.problem = problem
        self.seed = seed
        self.is_seeded = is_seeded
        self.lower, self.upper = _bounds(problem)
        self._table = _Table.of(problem)
        self._improvements: list[tuple[float, float]] = []

    @property
    def is_over(self) -> bool:
        return time.perf_counter() - self._begun >= self._seconds

    def score(self, genomes: Sequence[Sequence[int]] | Genomes) -> Scores:
        """Score a population, and remember the best one."""
        scores = self._table.score(np.rint(genomes).astype(np.int64))
        best = float(scores.min())
        if not self._improvements or best < self._improvements[-1][1]:
            self._improvements.append((time.perf_counter() - self._begun, best))
        return scores

    def best_after(self, seconds: float) -> float:
        """Return the best score known after so many seconds, infinity for none."""
        return min((score for elapsed, score in self._improvements if elapsed <= seconds), default=float("inf"))

    def first_population(self, size: int) -> Genomes:
        """Return random genomes; of a seeded race, half of them are the best of our constructive candidates."""
        generator = np.random.default_rng(self.seed)
        genomes = generator.integers(self.lower, self.upper, (size, len(self.lower)), endpoint=True)
        if self.is_seeded:
            candidates = self._candidates()
            best = np.argsort(self.score(candidates), kind="stable")[: size // 2]
            genomes[: len(best)] = candidates[best]
        return genomes

    def _candidates(self) -> Genomes:
        plans = list(islice(constructive_candidates(LinearModel(self.problem)), _MOST_CANDIDATES))
        genomes = np.full((len(plans), len(self.lower)), np.clip(0, self.lower, self.upper))
        for genome, plan in zip(genomes, plans, strict=True):
            genome[0] = len(plan)
            genome[1 : len(plan) + 1] = plan
        return genomes


def _bounds(problem: PlanningProblem) -> tuple[Genomes, Genomes]:
    longest = problem.objective.max_sequence_length
    low, high = problem.objective.throttle_range
    return np.array([1] + [low] * longest), np.array([longest] + [high] * longest)


@dataclass(frozen=True, slots=True)
class _Table:
    """What a throttle at each step is worth, for every length: rows are lengths, columns are steps."""

    problem: PlanningProblem
    gains: Scores
    holds: Scores
    coast_distances: Scores
    coast_speeds: Scores

    @classmethod
    def of(cls, problem: PlanningProblem) -> "_Table":
        longest = problem.objective.max_sequence_length
        powers = (1.0 - problem.friction) ** np.arange(1, longest + 1)
        ways = np.cumsum(powers)
        left = np.arange(longest)[:, None] - np.arange(longest)[None, :]
        gains, holds = (np.where(left >= 0, values[left], 0.0) / problem.mass for values in (ways, powers))
        return cls(problem, gains, holds, problem.speed * ways, problem.speed * powers)

    def score(self, genomes: Genomes) -> Scores:
        objective = self.problem.objective
        lengths, throttles = genomes[:, 0], genomes[:, 1:]
        row = lengths - 1
        covered = self.coast_distances[row] + np.einsum("ij,ij->i", throttles, self.gains[row])
        speeds = self.coast_speeds[row] + np.einsum("ij,ij->i", throttles, self.holds[row])
        excess = np.abs(speeds - objective.speed_threshold)
        excess[(speeds >= 0.0) & (speeds <= objective.speed_threshold)] = 0.0
        is_step = np.arange(throttles.shape[1]) < lengths[:, None]
        scores: Scores = (
            objective.distance_weight * np.abs(self.problem.distance - covered)
            + objective.speed_weight * excess
            + objective.length_weight * lengths
            + objective.nonzero_weight * np.count_nonzero((throttles != 0) & is_step, axis=1)
        )
        return scores


class _Fitness(base.Fitness):  # type: ignore[misc] # deap has no types
    weights = (-1.0,)


class _Individual(list[int]):
    def __init__(self, genes: Sequence[int]) -> None:
        super().__init__(genes)
        self.fitness = _Fitness()

    def copy(self) -> "_Individual":
        twin = _Individual(self)
        twin.fitness.wvalues = self.fitness.wvalues
        return twin


def deap(race: Race) -> None:
    """(μ + λ) with two-point crossover and uniform integer mutation, at the best of the rates that were tried."""
    random.seed(race.seed)
    toolbox = base.Toolbox()
    # Its deep copies would take most of the time.
    toolbox.register("clone", _Individual.copy)
    toolbox.register("mate", tools.cxTwoPoint)
    toolbox.register("mutate", tools.mutUniformInt, low=race.lower.tolist(), up=race.upper.tolist(), indpb=0.02)
    population = [_Individual(genes) for genes in race.first_population(100).tolist()]
    _assess(race, population)
    while not race.is_over:
        children = algorithms.varOr(population, toolbox, lambda_=100, cxpb=0.5, mutpb=0.5)
        _assess(race, [child for child in children if not child.fitness.valid])
        population = tools.selBest(population + children, 100)


def _assess(race: Race, individuals: list[_Individual]) -> None:
    if individuals:
        for individual, score in zip(individuals, race.score(individuals).tolist(), strict=True):
            individual.fitness.values = (score,)


def pymoo(race: Race) -> None:
    """Its GA with the rounding operators that its page on discrete variables shows."""
    problem = Problem(n_var=len(race.lower), n_obj=1, xl=race.lower, xu=race.upper, vtype=int)
    algorithm = GA(
        pop_size=100,
        sampling=race.first_population(100) if race.is_seeded else IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    algorithm.setup(problem, termination=("n_gen", 10**9), seed=race.seed, verbose=False)
    while not race.is_over:
        infills = algorithm.ask()
        infills.set("F", race.score(infills.get("X"))[:, None])
        algorithm.tell(infills=infills)


def pygad_(race: Race) -> None:
    """Its GA with the defaults: steady-state selection, single-point crossover, random mutation, one elite."""

    def fitness(_: pygad.GA, genomes: Genomes, __: object) -> list[float]:
        return [-score for score in race.score(genomes).tolist()]

    pygad.GA(
        num_generations=10**9,
        num_parents_mating=50,
        initial_population=race.first_population(100),
        fitness_func=fitness,
        fitness_batch_size=100,
        gene_type=int,
        gene_space=[range(low, high + 1) for low, high in zip(race.lower, race.upper, strict=True)],
        on_generation=lambda _: "stop" if race.is_over else None,
        random_seed=race.seed,
        suppress_warnings=True,
    ).run()


def scipy(race: Race) -> None:
    """Its differential evolution, vectorised, with the default strategy and population of 15 a gene."""
    size = 15 * len(race.lower)
    differential_evolution(
        lambda genomes: race.score(genomes.T),
        list(zip(race.lower, race.upper, strict=True)),
        integrality=np.ones(len(race.lower), dtype=bool),
        init=race.first_population(size) if race.is_seeded else "latinhypercube",
        vectorized=True,
        updating="deferred",
        polish=False,
        maxiter=10**9,
        tol=0.0,
        callback=lambda intermediate_result: race.is_over,  # noqa: ARG005 - scipy looks at its name
        rng=race.seed,
    )


PEERS: Mapping[str, Callable[[Race], None]] = {
    "deap": deap,
    "pymoo": pymoo,
    "pygad": pygad_,
    "scipy_de": scipy,
}
