"""The composition of planning: all that a planning process or a script needs, and nothing that a server adds."""

from collections.abc import Callable, Mapping

import svcs
from api_server.services.registry import ServiceRegistry

from throttling_sequencer.application.planning import PlanningTask
from throttling_sequencer.core.settings import SequencerSettings
from throttling_sequencer.di.container import Part, build_registry
from throttling_sequencer.domain.errors import UnknownStrategyError
from throttling_sequencer.domain.genetic_path import GeneticConfiguration, GeneticPathFinder
from throttling_sequencer.domain.navigation import PathFinder, Progress
from throttling_sequencer.domain.random_path import RandomPathFinder
from throttling_sequencer.domain.unit_plan import UnitPlan
from throttling_sequencer.infrastructure.planning_process import Planner
from throttling_sequencer.services.throttle_steps_service import ThrottleStepsService


def _optimal_path_finder() -> PathFinder:
    from throttling_sequencer.infrastructure.optimal import (  # noqa: PLC0415 - a server, which plans nothing, needs no numba
        OptimalPathFinder,
    )

    return OptimalPathFinder()


STRATEGIES: Mapping[str, Callable[..., PathFinder]] = {
    "genetic": svcs.autowire(GeneticPathFinder),
    "optimal": _optimal_path_finder,
    "random": RandomPathFinder,
}
"""What makes the path finder of each name that a request may use."""


def register_planning(registry: ServiceRegistry) -> None:
    """Register what planning itself needs."""
    settings = SequencerSettings()
    registry.register_value(SequencerSettings, settings)
    registry.register_value(GeneticConfiguration, settings.genetic_configuration)
    registry.register_factory(PathFinder, STRATEGIES[settings.path_finder])
    registry.register_factory(ThrottleStepsService, svcs.autowire(ThrottleStepsService))


def lane_planner(*parts: Part) -> Planner:
    """Return what a planning process plans with: the services of these parts, told what each task brings along."""
    registry = build_registry(*parts)

    def plan(task: PlanningTask, progress: Progress) -> list[UnitPlan]:
        with svcs.Container(registry) as container:
            container.register_local_value(GeneticConfiguration, task.configuration)
            if task.strategy is not None:
                use_strategy(container, task.strategy)
            service = container.get(ThrottleStepsService)
            objective = task.configuration.objective
            return service.plan(task.courses, objective, task.budget, progress, with_trajectory=task.with_trajectory)

    return plan


def warm_up() -> None:
    """Load what is compiled, so that no plan waits for it."""
    from throttling_sequencer.infrastructure import optimal  # noqa: PLC0415 - as above

    optimal.warm_up()


def use_strategy(container: svcs.Container, strategy: str) -> None:
    """Make a container plan with the path finder of this name. Raises UnknownStrategyError."""
    if strategy not in STRATEGIES:
        raise UnknownStrategyError(sorted(STRATEGIES))
    container.register_local_factory(PathFinder, STRATEGIES[strategy])
