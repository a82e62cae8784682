"""What may be kept as a preset of the sequencer: whatever can be planned with later."""

import json
from dataclasses import asdict
from typing import Any

import pytest
from api_server.validation import field_problems
from pydantic import BaseModel, ValidationError
from throttling_sequencer.api.presets import (
    GeneticConfigurationDocument,
    ScenarioDocument,
    read_configuration,
    read_scenario,
)
from throttling_sequencer.domain.genetic_path import GeneticConfiguration

UNIT = {"coordinate": {"x": 0, "y": 0}, "speed": 0, "mass": 10, "friction": 0.01}
SCENARIO = {"player_units": [UNIT], "enemy_units": [UNIT]}


def problems(kind: type[BaseModel], document: Any) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate_json(json.dumps(document))
    return [(problem["field"], problem["rule"]) for problem in field_problems(caught.value.errors())]


def test_a_document_that_says_nothing_is_the_domains_default() -> None:
    assert GeneticConfigurationDocument().configuration == GeneticConfiguration()


def test_a_document_holds_each_field_of_a_configuration_and_no_other() -> None:
    assert set(GeneticConfigurationDocument.model_fields) == set(asdict(GeneticConfiguration()))


def test_what_is_kept_is_read_as_it_was_written() -> None:
    document = GeneticConfigurationDocument.model_validate_json('{"throttle_range": [0, 77], "mutation_rate": 1}')
    kept = json.loads(json.dumps(document.model_dump(mode="json")))
    assert read_configuration(kept) == GeneticConfiguration(throttle_range=(0, 77), mutation_rate=1.0)


@pytest.mark.parametrize(
    ("document", "field", "rule"),
    [
        ({"mutation_rate": 2}, "mutation_rate", "should be a number from 0 to 1"),
        ({"throttle_range": [5, 3]}, "throttle_range", "should be two integers, the lower first, within ±1000000"),
        ({"population_size": "600"}, "population_size", "should be a valid integer"),
        ({"population": 600}, "population", "is not known here"),
        ({"timeout_ms": 10_001}, "timeout_ms", "should be a number from 1 to 10000"),
        ({"population_size": 20}, "population_size", "should be at least best_parents + worst_parents"),
    ],
)
def test_a_configuration_that_breaks_a_rule_is_refused_by_its_field(document: Any, field: str, rule: str) -> None:
    ((said_of, said),) = problems(GeneticConfigurationDocument, document)
    assert said_of == field
    assert said == rule


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({**SCENARIO, "player_units": []}, "player_units"),
        ({**SCENARIO, "enemy_units": [{**UNIT, "mass": 0}]}, "enemy_units[0].mass"),
        ({**SCENARIO, "player_units": [UNIT] * 1001}, "player_units"),
        ({"player_units": [UNIT]}, "enemy_units"),
    ],
)
def test_a_scenario_that_breaks_a_rule_is_refused_by_its_field(document: Any, field: str) -> None:
    ((said_of, _),) = problems(ScenarioDocument, document)
    assert said_of == field


def test_a_scenario_is_read_as_the_game_state_that_was_written() -> None:
    document = ScenarioDocument.model_validate_json(json.dumps(SCENARIO))
    assert read_scenario(document.model_dump(mode="json")).model_dump() == document.model_dump()
