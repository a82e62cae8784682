"""`SEQUENCER_*`: what an operator may decide about planning."""

import os
import re
from dataclasses import fields
from typing import Annotated, Any, Literal, Self

from api_server.settings import settings_config
from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode

from throttling_sequencer.domain.errors import InvalidValueError
from throttling_sequencer.domain.genetic_path import GeneticConfiguration

# As many as one user may have sockets open, each of which may begin with a search.
_SEARCHES = 128
_MINUTE_MS = 60_000


def _two_integers(value: Any) -> Any:  # noqa: ANN401 - whatever the environment holds
    """Read `0,300` as a pair."""
    return value.split(",") if isinstance(value, str) else value


class SequencerSettings(BaseSettings):
    """Settings of the sequencer; the genetic ones are the defaults of a request."""

    model_config = settings_config("SEQUENCER_")

    persistence: Literal["piccolo", "memory"] = Field(
        default="piccolo",
        description="where plans and the request log are kept: in the database, or in this process's memory",
    )
    request_log_waiting: int = Field(
        default=10_000, ge=1, le=1_000_000, description="requests that may wait to be written to the log"
    )
    request_log_days: int = Field(default=30, ge=1, le=36_500, description="days that the request log is kept")
    path_finder: Literal["genetic", "optimal", "random"] = Field(
        default="genetic", description="the strategy of a request that names none"
    )
    step_interval_ms: int = Field(
        default=100, ge=0, le=60_000, description="milliseconds from one goal of a live plan to the next"
    )
    max_units: int = Field(default=1000, ge=1, le=100_000, description="units a side that a request may hold")
    max_trajectory_units: int = Field(
        default=10, ge=0, le=1000, description="player units that a plan with trajectories may hold"
    )
    max_budget_ms: int = Field(
        default=10_000, ge=1, le=600_000, description="milliseconds of search that a plan may ask for"
    )
    lane_workers: int = Field(
        default=os.cpu_count() or 1, ge=1, le=256, description="planning processes of each serving process"
    )
    lane_waiting: int = Field(default=256, ge=0, le=100_000, description="plans that may wait for a process")
    lane_waiting_ms: int = Field(
        default=5000, ge=0, le=600_000, description="milliseconds that a plan may have to wait for a process"
    )
    principal_planning_ms: int | None = Field(
        default=None,
        ge=1,
        le=10**9,
        description="milliseconds of planning that one user may have in a minute; unset: 128 searches, and all "
        "processes for that minute",
    )

    store_deadline_ms: int = Field(
        default=10_000, ge=100, le=600_000, description="milliseconds after which a plan is stored, or that is refused"
    )
    store_waiting: int = Field(default=2000, ge=1, le=100_000, description="plans that may wait to be stored")

    population_size: int = Field(default=600, description="plans in a generation")
    generations: int = Field(default=300, description="generations of a search at most")
    mutation_rate: float = Field(default=0.1, description="how often a new plan mutates once more")
    best_parents: int = Field(default=20, description="best plans kept as parents")
    worst_parents: int = Field(default=10, description="other plans taken as parents")
    speed_threshold: float = Field(default=5.0, description="final speed that costs nothing")
    throttle_range: Annotated[tuple[int, int], NoDecode, BeforeValidator(_two_integers)] = Field(
        default=(0, 300), description="lowest and highest throttle of a step, two integers as 0,300"
    )
    max_sequence_length: int = Field(default=100, description="steps of a plan at most")
    distance_weight: float = Field(default=1.0, description="cost of a unit of distance missed")
    speed_weight: float = Field(default=0.5, description="cost of a unit of excess final speed")
    length_weight: float = Field(default=0.01, description="cost of a step")
    nonzero_weight: float = Field(default=0.01, description="cost of a step with a throttle")
    timeout_ms: int = Field(default=1000, description="milliseconds of a search at most")

    @model_validator(mode="after")
    def _keeps_the_rules_of_the_domain(self) -> Self:
        try:
            _ = self.genetic_configuration
        except InvalidValueError as error:
            rule = re.sub(r"[a-z]+_parents", lambda name: f"SEQUENCER_{name[0].upper()}", error.rule)
            raise ValueError(f"SEQUENCER_{error.field.upper()} {rule}.") from error
        return self

    @property
    def planning_allowance_ms(self) -> int:
        """What one user may have planned in a minute: what is set, else so much that nobody is refused by accident."""
        if self.principal_planning_ms is not None:
            return self.principal_planning_ms
        # What waits for the lane counts as well as what it plans.
        return _SEARCHES * self.timeout_ms + (_MINUTE_MS + self.lane_waiting_ms) * self.lane_workers

    @property
    def genetic_configuration(self) -> GeneticConfiguration:
        """The settings of the search and the objective, as the domain has them."""
        return GeneticConfiguration(**{field.name: getattr(self, field.name) for field in fields(GeneticConfiguration)})
