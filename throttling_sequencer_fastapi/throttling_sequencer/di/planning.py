"""The composition of planning: all that a planning process or a script needs, and nothing that a server adds."""

from collections.abc import Mapping

import svcs
from api_server.services.registry import ServiceRegistry

from throttling_sequencer.application.planning import PlanningTask
from throttling_sequencer.core.settings import SequencerSettings
from throttling_sequencer.di.container import Part, build_registry
from throttling_sequencer.domain.errors import UnknownStrategyError
from throttling_sequencer.domain.game import UnitGoal
from throttling_sequencer.domain.genetic_path import GeneticConfiguration, GeneticPathFinder
from throttling_sequencer.domain.navigation import PathFinder, Progress
from throttling_sequencer.domain.random_path import RandomPathFinder
from throttling_sequencer.infrastructure.lane import Planner
from throttling_sequencer.services.throttle_steps_service import ThrottleStepsService

STRATEGIES: Mapping[str, type[PathFinder]] = {"genetic": GeneticPathFinder, "random": RandomPathFinder}
"""The path finder behind each name that a request may use."""


def register_planning(registry: ServiceRegistry) -> None:
    """Register what planning itself needs."""
    settings = SequencerSettings()
    registry.register_value(SequencerSettings, settings)
    registry.register_value(GeneticConfiguration, settings.genetic_configuration)
    registry.register_factory(PathFinder, svcs.autowire(STRATEGIES[settings.path_finder]))
    registry.register_factory(ThrottleStepsService, svcs.autowire(ThrottleStepsService))


def lane_planner(*parts: Part) -> Planner:
    """Return what a planning process plans with: the services of these parts, told what each task brings along."""
    registry = build_registry(*parts)

    def plan(task: PlanningTask, progress: Progress) -> list[UnitGoal]:
        with svcs.Container(registry) as container:
            container.register_local_value(GeneticConfiguration, task.configuration)
            if task.strategy is not None:
                use_strategy(container, task.strategy)
            service = container.get(ThrottleStepsService)
            return service.calculate_throttle_steps(
                task.game_state, task.configuration.objective, task.budget, progress
            )

    return plan


def use_strategy(container: svcs.Container, strategy: str) -> None:
    """Make a container plan with the path finder of this name. Raises UnknownStrategyError."""
    if strategy not in STRATEGIES:
        raise UnknownStrategyError(sorted(STRATEGIES))
    container.register_local_factory(PathFinder, svcs.autowire(STRATEGIES[strategy]))
