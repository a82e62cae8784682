"""What every path finder promises, and what the genetic one adds."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from planning_cases import DEFAULTS, own_score, problems, seeded_problems
from throttling_sequencer.domain.genetic_path import GeneticConfiguration, GeneticPathFinder
from throttling_sequencer.domain.genetic_path.candidates import constructive_candidates
from throttling_sequencer.domain.genetic_path.evolution import Evolution
from throttling_sequencer.domain.genetic_path.linear_model import LinearModel, Plan
from throttling_sequencer.domain.genetic_path.shapes import Shapes
from throttling_sequencer.domain.navigation import Budget, Objective, PathFinder, PlanningProblem, ThrottlePlan
from throttling_sequencer.domain.random_path import RandomPathFinder
from throttling_sequencer.infrastructure.optimal import OptimalPathFinder

FINDERS: dict[str, PathFinder] = {"genetic": GeneticPathFinder(GeneticConfiguration()), "random": RandomPathFinder()}
SEED_CASE = PlanningProblem(5000, 0, 10, 0.01, DEFAULTS)
LONGEST = PlanningProblem(1e8, 0, 10, 0.01, Objective(max_sequence_length=10_000))
PAYLOADS = Path(__file__).parents[4] / "testing_payloads"
PLENTY_MS = 60_000

# Where the best plan is hard to find: light units, few places, tight totals, a burst of many coins.
HARD_CASES = [
    PlanningProblem(*numbers, DEFAULTS)
    for numbers in (
        (19.593, 0.0, 0.853, 0.01),
        (20.369, 15.837, 0.962, 0.5495),
        (19.526, 0.0946, 20.907, 0.1187),
        (18.602, 0.0, 0.898, 0.01),
        (405.55, 0.0, 3.647, 0.6503),
        (280.85, 5.915, 0.149, 0.9734),
        (4460.9, -51.28, 10.104, 0.01),
        (6379.9, 0.0, 7.744, 0.2079),
        (76715.1, 31.54, 0.028, 0.1297),
        (636.19, 0.0, 0.840, 0.0),
        (0.0, -43.3, 0.120, 0.0),
        (9.196, 0.0, 11.631, 0.4331),
    )
]


@pytest.fixture(params=FINDERS)
def path_finder(request: pytest.FixtureRequest) -> PathFinder:
    return FINDERS[request.param]


def assert_valid(problem: PlanningProblem, plan: ThrottlePlan) -> None:
    low, high = problem.objective.throttle_range
    assert 1 <= len(plan.throttles) <= problem.objective.max_sequence_length
    assert all(isinstance(throttle, int) and low <= throttle <= high for throttle in plan.throttles)
    assert plan.score == pytest.approx(own_score(problem, list(plan.throttles)), rel=1e-12, abs=1e-9)


def best_candidate(problem: PlanningProblem) -> float:
    return min(own_score(problem, plan) for plan in constructive_candidates(LinearModel(problem)))


def after_generations(problem: PlanningProblem, generations: int, population_size: int = 600, seed: int = 1) -> float:
    finder = GeneticPathFinder(genetic_configuration(problem, generations, population_size))
    return finder.find_path(problem, Budget(PLENTY_MS, seed)).score


def genetic_configuration(
    problem: PlanningProblem, generations: int, population_size: int, best_parents: int = 20, worst_parents: int = 10
) -> GeneticConfiguration:
    objective = problem.objective
    return GeneticConfiguration(
        population_size,
        generations,
        best_parents=best_parents,
        worst_parents=worst_parents,
        throttle_range=objective.throttle_range,
        max_sequence_length=objective.max_sequence_length,
    )


@pytest.mark.parametrize("problem", seeded_problems(20))
def test_every_plan_is_valid_and_scored_by_the_definition(path_finder: PathFinder, problem: PlanningProblem) -> None:
    assert_valid(problem, path_finder.find_path(problem, Budget(10)))


@settings(deadline=None, max_examples=100)
@given(problem=problems)
def test_whatever_the_problem_there_is_a_valid_plan(problem: PlanningProblem) -> None:
    for path_finder in FINDERS.values():
        assert_valid(problem, path_finder.find_path(problem, Budget(3)))


def test_the_seed_case_is_planned_in_a_fifth_of_its_default_budget() -> None:
    state = json.loads((PAYLOADS / "game_state.json").read_text())
    unit, target = state["player_units"][0], state["enemy_units"][0]
    distance = target["coordinate"]["x"] - unit["coordinate"]["x"]
    problem = PlanningProblem(distance, unit["speed"], unit["mass"], unit["friction"], DEFAULTS)
    plan = FINDERS["genetic"].find_path(problem, Budget(200))
    assert own_score(problem, list(plan.throttles)) <= 13.34


def test_a_unit_already_on_its_target_needs_one_idle_step() -> None:
    """Standing on the goal costs no throttle at all."""
    plan = FINDERS["genetic"].find_path(PlanningProblem(0, 0, 10, 0.01, DEFAULTS), Budget(50))
    assert plan.throttles == (0,)


def test_the_same_seed_and_generations_give_the_same_plan_and_another_seed_another() -> None:
    finder = GeneticPathFinder(GeneticConfiguration(generations=6, population_size=100))
    problem = PlanningProblem(300, 20, 50, 0.2, DEFAULTS)
    same = {finder.find_path(problem, Budget(PLENTY_MS, seed=7)) for _ in range(3)}
    assert len(same) == 1
    plan = same.pop()
    assert (plan.generations, plan.seed) == (6, 7)
    assert len({finder.find_path(problem, Budget(PLENTY_MS, seed)).throttles for seed in range(5)}) > 1


def test_a_search_without_a_seed_tells_which_one_repeats_it() -> None:
    genetic = GeneticPathFinder(GeneticConfiguration(generations=3, population_size=100))
    few = PlanningProblem(300, 20, 50, 0.2, Objective(max_sequence_length=2))
    for path_finder, problem in ((genetic, HARD_CASES[0]), (RandomPathFinder(), few)):
        plan = path_finder.find_path(problem, Budget(PLENTY_MS))
        assert plan == path_finder.find_path(problem, Budget(PLENTY_MS, plan.seed))
        assert plan.seed != path_finder.find_path(problem, Budget(PLENTY_MS)).seed


def test_the_random_search_is_repeatable_too() -> None:
    few = PlanningProblem(300, 20, 50, 0.2, Objective(max_sequence_length=2))
    finder = RandomPathFinder()
    assert len({finder.find_path(few, Budget(PLENTY_MS, seed=7)) for _ in range(2)}) == 1
    assert len({finder.find_path(SEED_CASE, Budget(20, seed)).throttles for seed in range(5)}) > 1


@pytest.mark.parametrize("problem", HARD_CASES[:4])
def test_more_generations_are_never_worse(problem: PlanningProblem) -> None:
    scores = [after_generations(problem, count, population_size=100, seed=3) for count in (1, 2, 3, 9, 27)]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("problem", seeded_problems(12))
def test_the_search_is_never_worse_than_its_best_candidate(problem: PlanningProblem) -> None:
    assert after_generations(problem, 1) <= best_candidate(problem) * (1 + 1e-12) + 1e-9


@settings(deadline=None, max_examples=25)
@given(problem=problems)
def test_whatever_the_problem_it_is_between_the_optimum_and_the_best_candidate(problem: PlanningProblem) -> None:
    objective = problem.objective
    configuration = GeneticConfiguration(
        population_size=200,
        generations=2,
        speed_threshold=objective.speed_threshold,
        throttle_range=objective.throttle_range,
        max_sequence_length=objective.max_sequence_length,
        distance_weight=objective.distance_weight,
        speed_weight=objective.speed_weight,
        length_weight=objective.length_weight,
        nonzero_weight=objective.nonzero_weight,
    )
    score = GeneticPathFinder(configuration).find_path(problem, Budget(PLENTY_MS, 1)).score
    bound = OptimalPathFinder().find_path(problem, Budget(50)).lower_bound
    assert bound is not None
    assert bound <= score + 1e-9 * max(1.0, score)
    assert score <= best_candidate(problem) * (1 + 1e-9) + 1e-9


@pytest.fixture(scope="module")
def evolved() -> list[float]:
    return [after_generations(problem, 3) for problem in HARD_CASES]


def test_a_few_generations_come_close_to_the_optimum_of_hard_cases(evolved: list[float]) -> None:
    optima = [OptimalPathFinder().find_path(problem, Budget(2000)).score for problem in HARD_CASES]
    gaps = sorted((score - optimum) / (optimum + 0.01) for score, optimum in zip(evolved, optima, strict=True))
    assert gaps[0] >= -0.001
    assert gaps[len(gaps) // 2] <= 0.005
    assert gaps[-1] <= 0.06


def test_evolution_improves_what_is_built(evolved: list[float]) -> None:
    assert sum(evolved) < sum(map(best_candidate, HARD_CASES)) - 0.01


def test_what_is_built_helps_evolution() -> None:
    """Which finds good plans from random ones too, but later."""
    configuration = GeneticConfiguration(generations=2, population_size=100)
    alone, both = (
        sum(
            GeneticPathFinder(configuration, has_candidates=has_candidates)
            .find_path(problem, Budget(PLENTY_MS, 1))
            .score
            for problem in HARD_CASES
        )
        for has_candidates in (False, True)
    )
    assert both < alone


@pytest.mark.parametrize("timeout_ms", [1, 30, 200])
@pytest.mark.parametrize("problem", [SEED_CASE, LONGEST], ids=["usual", "longest"])
def test_the_time_is_kept(path_finder: PathFinder, timeout_ms: int, problem: PlanningProblem) -> None:
    """Bounded generously: machines that run tests are busy."""
    started = time.perf_counter()
    assert_valid(problem, path_finder.find_path(problem, Budget(timeout_ms)))
    assert time.perf_counter() - started < timeout_ms / 1000 + 0.1


@pytest.mark.parametrize("problem", [SEED_CASE, LONGEST], ids=["usual", "longest"])
def test_the_largest_population_keeps_the_time_and_reports_meanwhile(problem: PlanningProblem) -> None:
    reports: list[float] = []

    def progress(generation: int, score: float, throttles: object) -> bool:
        reports.append(time.perf_counter())
        return generation >= 0 and score >= 0 and bool(throttles)

    configuration = genetic_configuration(problem, 300, 100_000, best_parents=50_000, worst_parents=50_000)
    started = time.perf_counter()
    GeneticPathFinder(configuration).find_path(problem, Budget(300), progress)
    assert time.perf_counter() - started < 0.4
    assert len(reports) >= 10


def test_a_search_reports_and_stops_when_it_is_told() -> None:
    heard: list[tuple[int, float]] = []

    def progress(generation: int, score: float, throttles: Sequence[int]) -> bool:
        assert score == pytest.approx(own_score(SEED_CASE, list(throttles)))
        heard.append((generation, score))
        return generation < 2

    plan = FINDERS["genetic"].find_path(SEED_CASE, Budget(PLENTY_MS), progress)
    assert sorted({generation for generation, _ in heard}) == [0, 1, 2]
    assert plan.generations == 2
    assert plan.score == pytest.approx(heard[-1][1])


@pytest.mark.parametrize("problem", [SEED_CASE, LONGEST], ids=["usual", "longest"])
def test_a_search_stops_soon_after_it_was_told(path_finder: PathFinder, problem: PlanningProblem) -> None:
    told: list[float] = []

    def stop_after_a_while(generation: int, score: float, throttles: object) -> bool:
        if time.perf_counter() - started > 0.05:
            told.append(time.perf_counter())
        return not told

    started = time.perf_counter()
    path_finder.find_path(problem, Budget(PLENTY_MS), stop_after_a_while)
    assert time.perf_counter() - told[0] < 0.1
    assert len(told) == 1


def test_brakes_are_used_where_the_range_has_them() -> None:
    """A unit that is too fast can only stop on its target by throttling backwards."""
    problem = PlanningProblem(100, 60, 10, 0, Objective(throttle_range=(-300, 300)))
    plan = FINDERS["genetic"].find_path(problem, Budget(300, seed=1))
    assert plan.score < 0.1
    assert min(plan.throttles) < 0


def test_a_range_without_zero_is_kept_to() -> None:
    objective = Objective(throttle_range=(7, 7), max_sequence_length=3)
    plan = FINDERS["genetic"].find_path(PlanningProblem(50, 0, 1, 0.1, objective), Budget(20))
    assert set(plan.throttles) == {7}


class _Births(Evolution):
    """Remembers who became parents."""

    mothers: list[Plan]
    rates: set[float]

    def child(self, mother: Plan, father: Plan, mutation_rate: float, limit: float) -> Plan:
        self.mothers.append(mother)
        self.rates.add(mutation_rate)
        return super().child(mother, father, mutation_rate, limit)


@pytest.fixture
def births(monkeypatch: pytest.MonkeyPatch) -> type[_Births]:
    _Births.mothers, _Births.rates = [], set()
    monkeypatch.setattr("throttling_sequencer.domain.genetic_path.path_finder.Evolution", _Births)
    return _Births


@pytest.mark.parametrize("mutation_rate", [0.0, 1.0])
def test_a_generation_has_the_parents_and_births_that_were_configured(
    births: type[_Births], mutation_rate: float
) -> None:
    configuration = GeneticConfiguration(50, 1, mutation_rate, best_parents=3, worst_parents=2)
    finder = GeneticPathFinder(configuration, has_candidates=False)
    assert finder.find_path(SEED_CASE, Budget(PLENTY_MS, 1)).generations == 1
    assert len(births.mothers) == 50 - 3
    assert len(set(births.mothers)) == 5
    assert births.rates == {mutation_rate}


def test_a_descendant_mutates_further_at_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    model = LinearModel(SEED_CASE)
    mutations: list[object] = []
    mutate = Evolution._mutate

    def counting(self: Evolution, draft: object) -> None:
        mutations.append(draft)
        mutate(self, draft)  # type: ignore[arg-type] # a draft is private to its module

    monkeypatch.setattr(Evolution, "_mutate", counting)
    evolution = Evolution(model, Shapes(model), Random(1))
    plan = model.plan(90, ((80, 100), (90, 250)))
    counts = []
    for rate in (0.0, 1.0):
        mutations.clear()
        for _ in range(200):
            evolution.child(plan, plan, rate, limit=1e9)
        counts.append(len(mutations))
    assert counts[0] <= 200 <= counts[1] - 100


@pytest.mark.parametrize("best_parents", [1, 2])
def test_the_smallest_population_evolves_too(best_parents: int) -> None:
    configuration = GeneticConfiguration(2, 200, best_parents=best_parents, worst_parents=2 - best_parents)
    plan = GeneticPathFinder(configuration).find_path(SEED_CASE, Budget(PLENTY_MS, 1))
    assert plan.generations == 200
    assert plan.score < 13.35
