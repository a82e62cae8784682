"""Which implementation stands for which type. Swapping one is a change of this file alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import svcs
from api_server.services.registry import ServiceRegistry

from throttling_sequencer.application.planning import Planning, PlanningLane, PlanningLimits, PlanningTask
from throttling_sequencer.core.settings import SequencerSettings
from throttling_sequencer.di.container import Part, build_registry
from throttling_sequencer.domain.errors import UnknownStrategyError
from throttling_sequencer.domain.game import UnitGoal
from throttling_sequencer.domain.genetic_path import GeneticConfiguration, GeneticPathFinder
from throttling_sequencer.domain.navigation import PathFinder
from throttling_sequencer.domain.random_path import RandomPathFinder
from throttling_sequencer.infrastructure.lane import ProcessLane
from throttling_sequencer.services.throttle_steps_service import ThrottleStepsService

STRATEGIES: Mapping[str, type[PathFinder]] = {"genetic": GeneticPathFinder, "random": RandomPathFinder}
"""The path finder behind each name that a request may use."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The `PlanningLimits` that the settings say."""

    max_units: int
    strategies: tuple[str, ...]


def adjust_registry(registry: ServiceRegistry, *swaps: Part) -> None:
    """Register everything that a server needs; `swaps` register other implementations of what planning needs.

    The parts of planning are module-level functions: the planning processes register them too.
    """
    parts = (register_planning, *swaps)
    for part in parts:
        part(registry)
    registry.register_singleton(PlanningLane, partial(_lane, parts))
    registry.register_factory(PlanningLimits, _limits)
    registry.register_factory(Planning, svcs.autowire(Planning))


def register_planning(registry: ServiceRegistry) -> None:
    """Register what planning itself needs: enough for a script or a planning process."""
    settings = SequencerSettings()
    registry.register_value(SequencerSettings, settings)
    registry.register_value(GeneticConfiguration, settings.genetic_configuration)
    registry.register_factory(PathFinder, svcs.autowire(STRATEGIES[settings.path_finder]))
    registry.register_factory(ThrottleStepsService, svcs.autowire(ThrottleStepsService))


def lane_planner(*parts: Part) -> Callable[[PlanningTask], list[UnitGoal]]:
    """Return what a planning process plans with: the services of these parts, told what each task brings along."""
    registry = build_registry(*parts)

    def plan(task: PlanningTask) -> list[UnitGoal]:
        with svcs.Container(registry) as container:
            container.register_local_value(GeneticConfiguration, task.configuration)
            if task.strategy is not None:
                use_strategy(container, task.strategy)
            service = container.get(ThrottleStepsService)
            return service.calculate_throttle_steps(task.game_state, task.configuration.objective, task.budget)

    return plan


def use_strategy(container: svcs.Container, strategy: str) -> None:
    """Make a container plan with the path finder of this name. Raises UnknownStrategyError."""
    if strategy not in STRATEGIES:
        raise UnknownStrategyError(sorted(STRATEGIES))
    container.register_local_factory(PathFinder, svcs.autowire(STRATEGIES[strategy]))


def _lane(parts: Sequence[Part], svcs_container: svcs.Container) -> PlanningLane:
    settings = svcs_container.get(SequencerSettings)
    planner = partial(lane_planner, *parts)
    return ProcessLane(planner, workers=settings.lane_workers, max_waiting=settings.lane_waiting)


def _limits(svcs_container: svcs.Container) -> PlanningLimits:
    return Limits(svcs_container.get(SequencerSettings).max_units, tuple(STRATEGIES))
