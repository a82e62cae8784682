"""The rules about objectives, budgets and the genetic configuration."""

import math
from typing import Any

import pytest
from throttling_sequencer.domain.errors import InvalidValueError
from throttling_sequencer.domain.game import Coordinate, Unit
from throttling_sequencer.domain.genetic_path import GeneticConfiguration
from throttling_sequencer.domain.navigation import Budget, Objective, PlanningProblem


@pytest.mark.parametrize(
    "values",
    [
        {"speed_threshold": -1},
        {"max_sequence_length": 0},
        {"distance_weight": math.nan},
        {"speed_weight": -0.1},
        {"throttle_range": (5, 4)},
        {"throttle_range": (0, 10**9)},
    ],
)
def test_an_objective_outside_the_rules_names_the_field(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError) as caught:
        Objective(**values)
    assert [caught.value.field] == list(values)


@pytest.mark.parametrize(
    "values",
    [
        {"population_size": 1},
        {"generations": 0},
        {"mutation_rate": 1.1},
        {"best_parents": 0},
        {"worst_parents": -1},
        {"timeout_ms": 0},
        {"max_sequence_length": 0},
    ],
)
def test_a_genetic_configuration_outside_the_rules_names_the_field(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError) as caught:
        GeneticConfiguration(**values)
    assert [caught.value.field] == list(values)


def test_the_parents_fit_into_the_population() -> None:
    with pytest.raises(InvalidValueError, match="population_size should be at least best_parents"):
        GeneticConfiguration(population_size=25, best_parents=20, worst_parents=10)


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_is_a_non_negative_31_bit_integer(seed: int) -> None:
    with pytest.raises(InvalidValueError, match=r"^seed should be a number from 0 to 2147483647$"):
        Budget(1000, seed)


def test_a_problem_is_one_dimensional() -> None:
    unit, target = Unit(Coordinate(1, 1), 7, 3, 0.5), Unit(Coordinate(4, 5), 0, 1, 0)
    assert PlanningProblem.between(unit, target, Objective()) == PlanningProblem(5, 7, 3, 0.5, Objective())
