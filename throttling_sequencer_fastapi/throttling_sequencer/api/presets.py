"""The documents of the sequencer's presets: what may be kept, and what is made of it."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from throttling_sequencer.api.http.v1.dtos import Dto, GameStateDto
from throttling_sequencer.application.mappers import to_game_state
from throttling_sequencer.core.settings import SequencerSettings
from throttling_sequencer.domain.genetic_path import GeneticConfiguration
from throttling_sequencer.domain.rules import require_between

GENETIC_CONFIGURATION = "genetic_configuration"
SCENARIO = "scenario"


class GeneticConfigurationDocument(Dto):
    """How to search, and what a plan is judged by; what is left out has the default that is shown here.

    The one named `default` replaces the service's own, on every worker, from the next request on.
    """

    population_size: int = Field(default=600, description="Plans in a generation.")
    generations: int = Field(default=300, description="Generations of a search at most.")
    mutation_rate: float = Field(default=0.1, description="How often a new plan mutates once more.")
    best_parents: int = Field(default=20, description="Best plans kept as parents.")
    worst_parents: int = Field(default=10, description="Other plans taken as parents.")
    speed_threshold: float = Field(default=5.0, description="Final speed that costs nothing.")
    throttle_range: tuple[int, int] = Field(default=(0, 300), description="Lowest and highest throttle of a step.")
    max_sequence_length: int = Field(default=100, description="Steps of a plan at most.")
    distance_weight: float = Field(default=1.0, description="Cost of a unit of distance missed.")
    speed_weight: float = Field(default=0.5, description="Cost of a unit of excess final speed.")
    length_weight: float = Field(default=0.01, description="Cost of a step.")
    nonzero_weight: float = Field(default=0.01, description="Cost of a step with a throttle.")
    timeout_ms: int = Field(default=1000, description="Milliseconds of a search at most.")

    @model_validator(mode="after")
    def _keeps_the_rules(self) -> Self:
        _ = self.configuration
        # Nobody gets by a preset what no request may ask for.
        require_between("timeout_ms", self.timeout_ms, 1, SequencerSettings().max_budget_ms)
        return self

    @property
    def configuration(self) -> GeneticConfiguration:
        """The document as the domain has it."""
        return GeneticConfiguration(**{field.name: getattr(self, field.name) for field in fields(GeneticConfiguration)})


class ScenarioDocument(GameStateDto):
    """A game state to plan for, again and again."""

    @model_validator(mode="after")
    def _keeps_the_rules(self) -> Self:
        to_game_state(self, SequencerSettings().max_units)
        return self


PRESET_KINDS: Mapping[str, type[BaseModel]] = {
    GENETIC_CONFIGURATION: GeneticConfigurationDocument,
    SCENARIO: ScenarioDocument,
}


def read_configuration(document: Mapping[str, Any]) -> GeneticConfiguration:
    """Make a configuration of what is kept. Raises ValidationError where it breaks a rule that came later."""
    # By way of JSON, in which a pair is a list.
    return GeneticConfigurationDocument.model_validate_json(json.dumps(document)).configuration


def read_scenario(document: Mapping[str, Any]) -> GameStateDto:
    """Make a game state of what is kept. Raises ValidationError where it breaks a rule that came later."""
    return ScenarioDocument.model_validate(document)
