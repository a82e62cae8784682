"""Stand-ins that tests put into the registry; importable, because planning processes import them by name."""

import os
import time
from dataclasses import replace

from api_server.services.registry import ServiceRegistry
from throttling_sequencer.app import SEQUENCER
from throttling_sequencer.application.planning import PlanningTask
from throttling_sequencer.di.services import adjust_registry
from throttling_sequencer.domain.game import Coordinate, GameState, Unit, UnitGoal
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
from throttling_sequencer.infrastructure.lane import Planner


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


def task(timeout_ms: int) -> PlanningTask:
    """Return a task of no interest, with this budget."""
    unit = Unit(Coordinate(0, 0), 0, 10, 0.01)
    return PlanningTask(GameState((unit,), (unit,)), GeneticConfiguration(), Budget(timeout_ms))


def slow_planner() -> Planner:
    """Answer after as many milliseconds as the task's budget says, with the process' id for a throttle."""

    def plan(task: PlanningTask, progress: Progress) -> list[UnitGoal]:
        deadline = time.monotonic() + task.budget.timeout_ms / 1000
        while (left := deadline - time.monotonic()) > 0 and progress(0, 0.0, ()):
            time.sleep(min(left, 0.01))
        return [UnitGoal(Coordinate(0, 0), os.getpid())]

    return plan


def broken_planner() -> Planner:
    """Fail before the first task."""
    raise RuntimeError("no planner today")


FULL_THROTTLE = replace(SEQUENCER, register=register_with_full_throttle)
