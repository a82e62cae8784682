"""Planners for tests of the lane. Planning processes import this module: it loads no more than they need."""

import os
import signal
import time
from collections.abc import Callable, Mapping

from throttling_sequencer.application.planning import PlanningTask
from throttling_sequencer.domain.game import Coordinate, Unit
from throttling_sequencer.domain.genetic_path import GeneticConfiguration
from throttling_sequencer.domain.navigation import Budget, Progress, ScoreParts, ThrottlePlan
from throttling_sequencer.domain.unit_plan import Course, UnitPlan
from throttling_sequencer.infrastructure.planning_process import Planner

WARM_UP_S = 0.7


def task(timeout_ms: int, courses: int = 1, strategy: str | None = None) -> PlanningTask:
    """Return a task of no interest, with this budget."""
    unit = Unit(Coordinate(0, 0), 0, 10, 0.01)
    numbered = tuple(Course(number, 0, unit, unit) for number in range(courses))
    return PlanningTask(numbered, GeneticConfiguration(), Budget(timeout_ms), strategy)


def unit_plan(course: Course, *throttles: int) -> UnitPlan:
    """Return a plan of no interest but for its throttles."""
    plan = ThrottlePlan(throttles, ScoreParts(0.0, 0.0, 0.0, 0.0))
    return UnitPlan(course.unit_index, course.target_index, plan, 0.0, 0.0, 0.0)


def _use_up(task: PlanningTask, progress: Progress) -> None:
    deadline = time.monotonic() + task.budget.timeout_ms / 1000
    while (left := deadline - time.monotonic()) > 0 and progress(0, 0.0, ()):
        time.sleep(min(left, 0.01))


def _be_quick(task: PlanningTask, progress: Progress) -> None:
    """Find the plans at once."""


def _be_late_for_the_first(task: PlanningTask, progress: Progress) -> None:
    time.sleep(0.0 if task.courses[0].unit_index else 0.2)


def _listen_between_courses(task: PlanningTask, progress: Progress) -> None:
    for _ in task.courses:
        progress(0, 0.0, ())
        time.sleep(0.02)


def _be_stuck(task: PlanningTask, progress: Progress) -> None:
    time.sleep(60)


def _crash(task: PlanningTask, progress: Progress) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fail(task: PlanningTask, progress: Progress) -> None:
    raise RuntimeError("no plan today")


_SEARCHES: Mapping[str | None, Callable[[PlanningTask, Progress], None]] = {
    None: _use_up,
    "quick": _be_quick,
    "late for the first": _be_late_for_the_first,
    "listening between courses": _listen_between_courses,
    "stuck": _be_stuck,
    "crash": _crash,
    "fail": _fail,
}


def slow_planner() -> Planner:
    """Use up the budget, or do as the strategy says; answer with the process' id and the budget for throttles."""

    def plan(task: PlanningTask, progress: Progress) -> list[UnitPlan]:
        _SEARCHES[task.strategy](task, progress)
        return [unit_plan(course, os.getpid(), task.budget.timeout_ms) for course in task.courses]

    return plan


def broken_planner() -> Planner:
    """Fail before the first task."""
    raise RuntimeError("no planner today")


def warm_up() -> None:
    """Take a while."""
    time.sleep(WARM_UP_S)


def endless_warm_up() -> None:
    """Compile for longer than anybody waits."""
    time.sleep(30)


def failing_warm_up() -> None:
    """Fail."""
    raise RuntimeError("it stays cold today")
