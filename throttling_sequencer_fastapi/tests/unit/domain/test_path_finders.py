"""What every path finder promises, and what the genetic one adds."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from planning_cases import DEFAULTS, own_score, problems, seeded_problems
from throttling_sequencer.domain.genetic_path import GeneticConfiguration, GeneticPathFinder
from throttling_sequencer.domain.genetic_path.candidates import burst_and_coast
from throttling_sequencer.domain.genetic_path.linear_model import LinearModel
from throttling_sequencer.domain.navigation import Budget, Objective, PathFinder, PlanningProblem, ThrottlePlan
from throttling_sequencer.domain.random_path import RandomPathFinder

FINDERS: dict[str, PathFinder] = {"genetic": GeneticPathFinder(GeneticConfiguration()), "random": RandomPathFinder()}
SEED_CASE = PlanningProblem(5000, 0, 10, 0.01, DEFAULTS)
PAYLOADS = Path(__file__).parents[4] / "testing_payloads"


@pytest.fixture(params=FINDERS)
def path_finder(request: pytest.FixtureRequest) -> PathFinder:
    return FINDERS[request.param]


def assert_valid(problem: PlanningProblem, plan: ThrottlePlan) -> None:
    low, high = problem.objective.throttle_range
    assert 1 <= len(plan.throttles) <= problem.objective.max_sequence_length
    assert all(isinstance(throttle, int) and low <= throttle <= high for throttle in plan.throttles)
    assert plan.score == pytest.approx(own_score(problem, list(plan.throttles)), rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("problem", seeded_problems(20))
def test_every_plan_is_valid_and_scored_by_the_definition(path_finder: PathFinder, problem: PlanningProblem) -> None:
    assert_valid(problem, path_finder.find_path(problem, Budget(30)))


@settings(deadline=None, max_examples=100)
@given(problem=problems)
def test_whatever_the_problem_there_is_a_valid_plan(problem: PlanningProblem) -> None:
    for path_finder in FINDERS.values():
        assert_valid(problem, path_finder.find_path(problem, Budget(2)))


def test_the_seed_case_is_planned_within_its_default_budget() -> None:
    state = json.loads((PAYLOADS / "game_state.json").read_text())
    unit, target = state["player_units"][0], state["enemy_units"][0]
    distance = target["coordinate"]["x"] - unit["coordinate"]["x"]
    problem = PlanningProblem(distance, unit["speed"], unit["mass"], unit["friction"], DEFAULTS)
    plan = FINDERS["genetic"].find_path(problem, Budget(GeneticConfiguration().timeout_ms))
    assert own_score(problem, list(plan.throttles)) <= 14


def test_a_unit_already_on_its_target_needs_one_idle_step() -> None:
    """Standing on the goal costs no throttle at all."""
    plan = FINDERS["genetic"].find_path(PlanningProblem(0, 0, 10, 0.01, DEFAULTS), Budget(50))
    assert plan.throttles == (0,)


def test_the_same_seed_and_generations_give_the_same_plan_and_another_seed_another() -> None:
    finder = GeneticPathFinder(GeneticConfiguration(generations=6, population_size=100))
    problem = PlanningProblem(300, 20, 50, 0.2, DEFAULTS)
    same = {finder.find_path(problem, Budget(60_000, seed=7)) for _ in range(3)}
    assert len(same) == 1
    assert same.pop().generations == 6
    assert len({finder.find_path(problem, Budget(60_000, seed)).throttles for seed in range(5)}) > 1


def test_the_random_search_is_repeatable_too() -> None:
    few = PlanningProblem(300, 20, 50, 0.2, Objective(max_sequence_length=2))
    finder = RandomPathFinder()
    assert len({finder.find_path(few, Budget(60_000, seed=7)) for _ in range(2)}) == 1
    assert len({finder.find_path(SEED_CASE, Budget(20, seed)).throttles for seed in range(5)}) > 1


def test_more_generations_are_never_worse() -> None:
    scores = [
        GeneticPathFinder(GeneticConfiguration(generations=count, population_size=100))
        .find_path(SEED_CASE, Budget(60_000, seed=3))
        .score
        for count in (1, 3, 9, 27)
    ]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("problem", seeded_problems(20))
def test_evolution_starts_from_the_constructive_candidates(problem: PlanningProblem) -> None:
    """So that the genetic search is never worse than the best of them."""
    model = LinearModel(problem)
    lengths = range(1, problem.objective.max_sequence_length + 1)
    best = min(own_score(problem, burst_and_coast(model, length)) for length in lengths)
    assert FINDERS["genetic"].find_path(problem, Budget(100)).score <= best + 1e-9


@pytest.mark.parametrize("timeout_ms", [1, 30, 200])
def test_the_time_is_kept(path_finder: PathFinder, timeout_ms: int) -> None:
    """Bounded generously: machines that run tests are busy."""
    started = time.perf_counter()
    path_finder.find_path(SEED_CASE, Budget(timeout_ms))
    assert time.perf_counter() - started < timeout_ms / 1000 + 0.1


def test_the_longest_plans_allowed_keep_the_time_too() -> None:
    problem = PlanningProblem(1e8, 0, 10, 0.01, Objective(max_sequence_length=10_000))
    started = time.perf_counter()
    assert_valid(problem, FINDERS["genetic"].find_path(problem, Budget(50)))
    assert time.perf_counter() - started < 0.5


def test_a_search_reports_and_stops_when_it_is_told() -> None:
    heard: list[tuple[int, float]] = []

    def progress(generation: int, score: float, throttles: object) -> bool:
        heard.append((generation, score))
        return generation < 2

    plan = FINDERS["genetic"].find_path(SEED_CASE, Budget(60_000), progress)
    assert [generation for generation, _ in heard] == [0, 1, 2]
    assert plan.generations == 2
    assert plan.score == pytest.approx(heard[-1][1])


def test_the_random_search_stops_when_it_is_told() -> None:
    started = time.perf_counter()
    FINDERS["random"].find_path(SEED_CASE, Budget(60_000), lambda *_: False)
    assert time.perf_counter() - started < 1


def test_brakes_are_used_where_the_range_has_them() -> None:
    """A unit that is too fast can only stop on its target by throttling backwards."""
    problem = PlanningProblem(100, 60, 10, 0, Objective(throttle_range=(-300, 300)))
    plan = FINDERS["genetic"].find_path(problem, Budget(300, seed=1))
    assert plan.score < 3
    assert min(plan.throttles) < 0
