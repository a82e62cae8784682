"""What the parts of the genetic search promise to each other."""

import math
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from planning_cases import DEFAULTS, own_score, problems, seeded_problems
from throttling_sequencer.domain.genetic_path.bounds import FORWARD, Bounds, Rest
from throttling_sequencer.domain.genetic_path.candidates import constructive_candidates
from throttling_sequencer.domain.genetic_path.closing import Closing, spread
from throttling_sequencer.domain.genetic_path.descent import descend, last_where
from throttling_sequencer.domain.genetic_path.evolution import Evolution
from throttling_sequencer.domain.genetic_path.linear_model import LinearModel, Plan
from throttling_sequencer.domain.genetic_path.shapes import Shapes
from throttling_sequencer.domain.navigation import Objective, PlanningProblem

RANGES = [(0, 300), (-20, 30), (-40, 0), (5, 60), (-9, -2), (0, 1)]
SEED_CASE = PlanningProblem(5000, 0, 10, 0.01, DEFAULTS)


def random_plan(model: LinearModel, seed: int) -> Plan:
    return Evolution(model, Shapes(model), Random(seed)).random_plan()


@settings(deadline=None, max_examples=200)
@given(problem=problems, seed=st.integers(0, 1000))
def test_the_linear_model_scores_as_the_definition_does(problem: PlanningProblem, seed: int) -> None:
    model = LinearModel(problem)
    plan = random_plan(model, seed)
    largest = max(problem.distance, abs(problem.speed) * plan.length, 1.0)
    weights = problem.objective.distance_weight + problem.objective.speed_weight
    throttles = model.throttles(plan)
    _, final_speed = model.rest(plan.length, plan.coins)
    if abs(final_speed) > 1e-6 * largest:
        assert plan.score == pytest.approx(own_score(problem, throttles), rel=1e-9, abs=1e-9 * largest * (weights + 1))


@pytest.mark.parametrize("throttle_range", RANGES)
def test_no_plan_costs_less_than_the_bound_of_its_coins(throttle_range: tuple[int, int]) -> None:
    random = Random(5)
    for _ in range(150):
        objective = Objective(random.uniform(0, 9), throttle_range, 12)
        friction = random.choice((0.0, random.uniform(0, 0.9)))
        problem = PlanningProblem(
            random.uniform(0, 500), random.uniform(-30, 60), random.uniform(0.1, 9), friction, objective
        )
        model = LinearModel(problem)
        plan = random_plan(model, random.randrange(1000))
        missing, speed = model.rest(plan.length, plan.coins)
        bounds = Bounds(model, model.coin_low, model.coin_high)
        total = sum(coin for _, coin in plan.coins)
        idle = model.missing(plan.length), model.idle_speed(plan.length)
        side = FORWARD if speed >= 0 else -FORWARD
        rest = Rest(*idle, 0, plan.length, len(plan.coins), total, side)
        assert bounds.cost(rest) <= model.cost(missing, speed) + 1e-6
        assert bounds.with_cheapest_total(rest)[0] <= bounds.cost(rest)


def test_no_plan_can_end_on_the_other_side_than_its_speed_allows() -> None:
    model = LinearModel(PlanningProblem(100, 50, 10, 0.01, Objective(throttle_range=(0, 300), max_sequence_length=10)))
    rest = Rest(model.missing(10), model.idle_speed(10), 0, 10, 2, 20, -FORWARD)
    assert math.isinf(Bounds(model, 1, 300).cost(rest))


@given(wanted=st.floats(0, 3000), total=st.integers(2, 600), place=st.integers(1, 40))
def test_two_coins_keep_their_total_and_their_values(wanted: float, total: int, place: int) -> None:
    pair = Closing(LinearModel(SEED_CASE)).pair(wanted, total, place, (1, 40), taken={7, 8})
    assert pair is not None
    assert pair.coin + pair.other_coin == total
    assert 0 <= min(pair.coin, pair.other_coin) <= max(pair.coin, pair.other_coin) <= 300
    assert pair.other_place not in {place, 7, 8}


def test_two_coins_come_as_near_as_any_at_their_places() -> None:
    model = LinearModel(SEED_CASE)
    wanted, total, place = 1234.5, 400, 20
    pair = Closing(model).pair(wanted, total, place, (1, 60))
    missed = [
        abs(wanted - model.gains[place] * (total - coin) - model.gains[other] * coin)
        for other in range(1, 61)
        for coin in range(100, 301)
        if other != place
    ]
    assert pair is not None
    assert pair.missed == pytest.approx(min(missed))


def test_two_coins_at_their_places_may_have_any_total_that_ends_slowly() -> None:
    model = LinearModel(SEED_CASE)
    closing = Closing(model)
    missing, speed = 300.0, 0.2
    coins = closing.allowed(missing, speed, 50, 80)
    assert len(coins) > 5
    for coin in coins:
        other = closing.coin(80, missing - model.gains[50] * coin)
        assert -0.1 <= speed + model.holds[50] * coin + model.holds[80] * other <= DEFAULTS.speed_threshold + 0.1
    coin, other = closing.pair_at(missing, 50, 80, coins)
    best = min(abs(missing - model.gains[50] * a - model.gains[80] * b) for a in coins for b in range(1, 301))
    assert abs(missing - model.gains[50] * coin - model.gains[80] * other) == pytest.approx(best)


@given(guess=st.integers(-50, 50), least=st.integers(-50, 50))
def test_a_descent_ends_at_the_least_cost_wherever_it_begins(guess: int, least: int) -> None:
    assert descend(lambda number: (number - least) ** 2 + 1.0, guess, -50, 50) == (1.0, least)


@given(end=st.integers(-5, 25))
def test_the_last_number_for_which_something_holds_is_found(end: int) -> None:
    assert last_where(lambda number: number <= end, 0, 20) == min(max(end, 0), 20)


def test_few_places_stand_for_many() -> None:
    assert list(spread(3, 9)) == [3, 4, 5, 6, 7, 8, 9]
    assert list(spread(5, 4)) == []
    assert 64 <= len(spread(1, 10_000)) <= 128


@pytest.mark.parametrize("problem", seeded_problems(20))
def test_candidates_are_allowed_and_few(problem: PlanningProblem) -> None:
    candidates = list(constructive_candidates(LinearModel(problem)))
    assert 1 <= len(candidates) <= problem.objective.max_sequence_length
    for throttles in candidates:
        assert 1 <= len(throttles) <= 100
        assert all(0 <= throttle <= 300 for throttle in throttles)


@settings(deadline=None, max_examples=50)
@given(problem=problems)
def test_whatever_the_problem_there_is_a_candidate(problem: PlanningProblem) -> None:
    low, high = problem.objective.throttle_range
    throttles = next(constructive_candidates(LinearModel(problem)))
    assert all(low <= throttle <= high for throttle in throttles)


# Gains that differ by less than any quotient can say.
HARDLY_ANY_FRICTION = PlanningProblem(
    distance=0.0,
    speed=125.0,
    mass=283229338.0,
    friction=1.9693943599850792e-298,
    objective=Objective(
        speed_threshold=0.0,
        throttle_range=(0, 1),
        max_sequence_length=3,
        distance_weight=0.0,
        speed_weight=1.0,
        length_weight=0.0,
        nonzero_weight=0.0,
    ),
)


@settings(deadline=None, max_examples=100)
@given(problem=problems, seed=st.integers(0, 100), rate=st.sampled_from([0.0, 0.5, 1.0]))
@example(problem=HARDLY_ANY_FRICTION, seed=0, rate=0.0)
def test_descendants_are_allowed_plans(problem: PlanningProblem, seed: int, rate: float) -> None:
    model, random = LinearModel(problem), Random(seed)
    low, high = problem.objective.throttle_range
    evolution = Evolution(model, Shapes(model), random)
    mother, father = evolution.random_plan(), evolution.random_plan()
    for _ in range(10):
        child = evolution.child(mother, father, rate, math.inf)
        throttles = model.throttles(child)
        assert 1 <= len(throttles) == child.length <= problem.objective.max_sequence_length
        assert all(low <= throttle <= high for throttle in throttles)
        assert list(child.coins) == sorted(dict(child.coins).items())
        assert all(coin for _, coin in child.coins)
        mother, father = child, mother
