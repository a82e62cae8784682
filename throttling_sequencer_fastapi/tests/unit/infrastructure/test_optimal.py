"""The path finder that proves its plan: the proof holds, for every problem, whether compiled or not."""

import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_cases import DEFAULTS, own_score, problems, seeded_problems
from throttling_sequencer.domain.genetic_path import GeneticConfiguration, GeneticPathFinder
from throttling_sequencer.domain.genetic_path.candidates import constructive_candidates
from throttling_sequencer.domain.genetic_path.linear_model import LinearModel
from throttling_sequencer.domain.navigation import Budget, Objective, PlanningProblem, ThrottlePlan
from throttling_sequencer.infrastructure import optimal_search
from throttling_sequencer.infrastructure.optimal import OptimalPathFinder

FINDER = OptimalPathFinder()
PLENTY = Budget(60_000)
# What the finder leaves unsearched, and what floats may be wrong by.
CLOSE, ROUNDING = 4.1e-4, 1e-6
# Its proof takes the better part of a second: seven coins, and fewer that nearly do.
STUBBORN = PlanningProblem(173018.02063842415, 0.0, 0.4198470479143173, 0.01, DEFAULTS)


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """Nothing here measures compilation."""
    FINDER.find_path(STUBBORN, Budget(1))


def every_plan(objective: Objective) -> Iterator[tuple[int, ...]]:
    low, high = objective.throttle_range
    for length in range(1, objective.max_sequence_length + 1):
        yield from product(range(low, high + 1), repeat=length)


def small_problem(random: Random) -> PlanningProblem:
    """A problem whose plans can be counted, of every kind of throttle range and weights."""
    low, high = random.choice(((0, 6), (-3, 4), (1, 5), (-4, -1), (0, 1), (-6, 0), (2, 2), (0, 0), (-1, 1), (-2, 7)))
    weights = (random.choice((0.0, 1.0, 10 ** random.uniform(-2, 2))) for _ in range(4))
    objective = Objective(
        random.choice((0.0, 1.0, random.uniform(0, 10))), (low, high), random.randint(1, 4 if high < 5 else 3), *weights
    )
    return PlanningProblem(
        distance=random.choice((0.0, float(random.randint(0, 30)), random.uniform(0, 30))),
        speed=random.choice((0.0, float(random.randint(-8, 8)), random.uniform(-8, 8))),
        mass=random.choice((1.0, 10 ** random.uniform(-1, 1))),
        friction=random.choice((0.0, 0.5, random.uniform(0, 0.99))),
        objective=objective,
    )


@pytest.mark.parametrize("seed", range(200))
def test_of_all_plans_it_finds_the_best_and_its_bound_is_below(seed: int) -> None:
    problem = small_problem(Random(seed))
    optimum = min(own_score(problem, list(throttles)) for throttles in every_plan(problem.objective))
    plan = FINDER.find_path(problem, PLENTY)
    assert optimum - ROUNDING <= plan.score <= optimum + CLOSE
    assert plan.lower_bound is not None
    assert plan.lower_bound <= optimum + ROUNDING


def assert_valid(problem: PlanningProblem, plan: ThrottlePlan) -> None:
    low, high = problem.objective.throttle_range
    assert 1 <= len(plan.throttles) <= problem.objective.max_sequence_length
    assert all(type(throttle) is int and low <= throttle <= high for throttle in plan.throttles)
    assert plan.score == pytest.approx(own_score(problem, list(plan.throttles)), rel=1e-12, abs=1e-9)
    assert plan.lower_bound is not None
    assert plan.gap is not None
    assert 0 <= plan.lower_bound <= plan.score
    assert math.isfinite(plan.score)


@settings(deadline=None, max_examples=150)
@given(problem=problems, timeout_ms=st.sampled_from((1, 20)))
def test_whatever_the_problem_there_is_a_valid_plan_with_a_bound(problem: PlanningProblem, timeout_ms: int) -> None:
    assert_valid(problem, FINDER.find_path(problem, Budget(timeout_ms)))


@pytest.mark.parametrize("problem", seeded_problems(40))
def test_the_usual_problems_are_proved(problem: PlanningProblem) -> None:
    plan = FINDER.find_path(problem, PLENTY)
    assert_valid(problem, plan)
    assert plan.gap is not None
    assert plan.gap <= CLOSE


@pytest.mark.parametrize("problem", seeded_problems(12))
def test_what_it_proves_beats_what_others_find(problem: PlanningProblem) -> None:
    proved = FINDER.find_path(problem, PLENTY)
    genetic = GeneticPathFinder(GeneticConfiguration(generations=3)).find_path(problem, Budget(1000, seed=1))
    built = min(own_score(problem, plan) for plan in constructive_candidates(LinearModel(problem)))
    assert proved.lower_bound is not None
    assert proved.lower_bound <= genetic.score + ROUNDING
    assert proved.score <= genetic.score + CLOSE
    assert genetic.score <= built + ROUNDING


def test_the_known_example_scores_what_the_documents_say() -> None:
    plan = FINDER.find_path(PlanningProblem(5000.0, 0.0, 10.0, 0.01, DEFAULTS), PLENTY)
    assert plan.score == pytest.approx(13.3375, abs=1e-3)
    assert plan.lower_bound == pytest.approx(plan.score, abs=CLOSE)
    assert plan.seed is None


@pytest.mark.parametrize(
    "objective",
    [
        replace(DEFAULTS, throttle_range=(-300, 300)),
        replace(DEFAULTS, throttle_range=(1, 100)),
        replace(DEFAULTS, throttle_range=(-100, -1)),
        replace(DEFAULTS, throttle_range=(7, 7)),
        replace(DEFAULTS, speed_threshold=0.0),
        replace(DEFAULTS, speed_weight=100.0),
        replace(DEFAULTS, nonzero_weight=0.0),
        replace(DEFAULTS, length_weight=0.0, nonzero_weight=1.0),
        replace(DEFAULTS, max_sequence_length=7),
        replace(DEFAULTS, max_sequence_length=400),
    ],
    ids=str,
)
@pytest.mark.parametrize(("distance", "speed"), [(900.0, 0.0), (40.0, -12.5)])
def test_every_objective_is_proved(objective: Objective, distance: float, speed: float) -> None:
    for friction in (0.0, 0.02):
        problem = PlanningProblem(distance, speed, 12.0, friction, objective)
        plan = FINDER.find_path(problem, PLENTY)
        assert_valid(problem, plan)
        assert plan.gap is not None
        assert plan.gap <= CLOSE


def test_where_time_is_up_the_gap_is_told_and_more_time_closes_it() -> None:
    begun = time.perf_counter()
    hurried = FINDER.find_path(STUBBORN, Budget(2))
    assert time.perf_counter() - begun < 0.1
    assert_valid(STUBBORN, hurried)
    assert hurried.gap is not None
    assert hurried.gap > CLOSE
    proved = FINDER.find_path(STUBBORN, PLENTY)
    assert proved.gap is not None
    assert proved.gap <= CLOSE
    assert hurried.lower_bound is not None
    assert hurried.lower_bound <= proved.score <= hurried.score


def test_who_is_told_to_stop_stops() -> None:
    heard: list[tuple[float, int]] = []

    def stop(generation: int, score: float, throttles: Sequence[int]) -> bool:
        heard.append((score, len(throttles)))
        return False

    begun = time.perf_counter()
    plan = FINDER.find_path(STUBBORN, PLENTY, stop)
    assert time.perf_counter() - begun < 0.1
    ((score, steps),) = heard
    assert score == pytest.approx(plan.score)
    assert steps == len(plan.throttles)


def test_a_plan_of_ten_thousand_steps_keeps_to_its_time() -> None:
    problem = replace(STUBBORN, speed=-3.0, objective=replace(DEFAULTS, max_sequence_length=10_000, length_weight=0.0))
    begun = time.perf_counter()
    assert_valid(problem, FINDER.find_path(problem, Budget(50)))
    assert time.perf_counter() - begun < 0.5


def test_where_distances_are_beyond_all_fractions_the_bound_holds() -> None:
    """From there on no distance is a whole number of 1/mass any more than any other."""
    objective = Objective(max_sequence_length=2, throttle_range=(0, 3))
    problem = PlanningProblem(1e9, -1e9, 1e9, 0.0, objective)
    optimum = min(own_score(problem, list(throttles)) for throttles in every_plan(objective))
    for distance in (1e9, 0.3, 7e5):
        plan = FINDER.find_path(replace(problem, distance=distance), PLENTY)
        assert_valid(replace(problem, distance=distance), plan)
    best = FINDER.find_path(problem, PLENTY)
    assert best.lower_bound is not None
    assert best.lower_bound <= optimum * (1 + 1e-12)
    assert best.score == pytest.approx(optimum, rel=1e-12)


WITHOUT_NUMBA = """
import json, sys
sys.modules["numba"] = None
from planning_cases import seeded_problems
from throttling_sequencer.domain.navigation import Budget
from throttling_sequencer.infrastructure import optimal, optimal_search
assert not optimal_search.IS_COMPILED
plans = [optimal.OptimalPathFinder().find_path(problem, Budget(60_000)) for problem in seeded_problems(12)]
print(json.dumps([[plan.throttles, plan.lower_bound] for plan in plans]))
"""


def test_without_numba_the_plans_are_the_same() -> None:
    assert optimal_search.IS_COMPILED, "the development's environment has numba"
    environment = {"PYTHONPATH": ":".join(sys.path)}
    program = [sys.executable, "-c", WITHOUT_NUMBA]
    answer = subprocess.run(program, env=environment, check=True, capture_output=True, text=True, timeout=100)
    compiled = [FINDER.find_path(problem, PLENTY) for problem in seeded_problems(12)]
    assert json.loads(answer.stdout) == [[list(plan.throttles), plan.lower_bound] for plan in compiled]


WARM_UP = """
from throttling_sequencer.infrastructure import optimal, optimal_search
optimal.warm_up()
entered = (optimal_search.prepare, optimal_search.advance, optimal_search.needs_room, optimal_search.proven)
print([sum(function.stats.cache_misses.values()) for function in entered])
"""


def test_the_set_up_compiled_all_that_there_is_to_compile() -> None:
    program = [sys.executable, "-c", WARM_UP]
    answer = subprocess.run(program, check=True, capture_output=True, text=True, timeout=100)
    assert json.loads(answer.stdout) == [0, 0, 0, 0]
