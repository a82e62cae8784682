"""Stand-ins that tests put into the registry; importable, because planning processes import them by name."""

from dataclasses import replace

from api_server.services.registry import ServiceRegistry
from throttling_sequencer.app import SEQUENCER
from throttling_sequencer.application.configuration import CurrentConfiguration
from throttling_sequencer.di.services import adjust_registry
from throttling_sequencer.domain.genetic_path import GeneticConfiguration
from throttling_sequencer.domain.navigation import (
    Budget,
    PathFinder,
    PlanningProblem,
    Progress,
    ThrottlePlan,
    keep_going,
)
from throttling_sequencer.domain.physics import score_parts
from throttling_sequencer.infrastructure.preset_stores import LoggedConfigurationEvents, NoConfigurationStore


def configured(configuration: GeneticConfiguration) -> CurrentConfiguration:
    """Be the configuration of a service that keeps none."""
    return CurrentConfiguration(configuration, NoConfigurationStore(), LoggedConfigurationEvents())


class NoAllowance:
    """An allowance that nobody can spend, and that remembers what was reserved and what it came to."""

    most_ms = 10**9

    def __init__(self) -> None:
        self.reserved: list[tuple[str, int]] = []
        self.settled: list[tuple[str, int, float]] = []
        self.error: Exception | None = None

    def reserve(self, principal: str, process_ms: int) -> None:
        if self.error is not None:
            raise self.error
        self.reserved.append((principal, process_ms))

    def settle(self, principal: str, process_ms: int, used_ms: float) -> None:
        self.settled.append((principal, process_ms, used_ms))


class FullThrottle:
    """A path finder that never thinks."""

    def find_path(self, problem: PlanningProblem, budget: Budget, progress: Progress = keep_going) -> ThrottlePlan:
        throttles = (problem.objective.throttle_range[1],)
        return ThrottlePlan(throttles, score_parts(problem, throttles))


def register_full_throttle(registry: ServiceRegistry) -> None:
    """Swap the path finder, and nothing else."""
    registry.register_factory(PathFinder, FullThrottle)


def register_with_full_throttle(registry: ServiceRegistry) -> None:
    """Register a whole sequencer that plans with it."""
    adjust_registry(registry, register_full_throttle)


FULL_THROTTLE = replace(SEQUENCER, register=register_with_full_throttle)
