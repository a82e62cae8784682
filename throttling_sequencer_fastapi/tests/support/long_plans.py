"""A sequencer whose plans are long and made at once: what is left to measure is what it does with them."""

from dataclasses import replace

from api_server.services.registry import ServiceRegistry
from throttling_sequencer.app import SEQUENCER
from throttling_sequencer.di.services import adjust_registry
from throttling_sequencer.domain.navigation import (
    Budget,
    PathFinder,
    PlanningProblem,
    Progress,
    ThrottlePlan,
    keep_going,
)
from throttling_sequencer.domain.physics import score_parts


class Persistent:
    """A path finder that throttles for as long as it may, and differently at each step."""

    def find_path(self, problem: PlanningProblem, budget: Budget, progress: Progress = keep_going) -> ThrottlePlan:
        low, high = problem.objective.throttle_range
        throttles = tuple(low + step % (high - low + 1) for step in range(problem.objective.max_sequence_length))
        return ThrottlePlan(throttles, score_parts(problem, throttles), seed=budget.seed)


def register_persistent(registry: ServiceRegistry) -> None:
    """Swap the path finder, and nothing else."""
    registry.register_factory(PathFinder, Persistent)


def register_with_persistent(registry: ServiceRegistry) -> None:
    """Register a whole sequencer that plans with it."""
    adjust_registry(registry, register_persistent)


LONG_PLANS = replace(SEQUENCER, register=register_with_persistent)
