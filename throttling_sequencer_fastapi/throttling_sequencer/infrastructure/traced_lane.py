"""A lane whose tasks are spans of their requests' traces."""

from api_server.telemetry import Span

from throttling_sequencer.application.planning import UNWATCHED, PlanningLane, PlanningTask, PlanningWatch
from throttling_sequencer.core import telemetry
from throttling_sequencer.domain.unit_plan import UnitPlan


class TracedLane:
    """Tells of each task how long it waited for a process, and how long it was searched for."""

    def __init__(self, lane: PlanningLane) -> None:
        self._lane = lane

    async def run(self, task: PlanningTask, watch: PlanningWatch = UNWATCHED) -> list[UnitPlan]:
        """Plan in the lane."""
        with telemetry.planning(len(task.courses), task.strategy, task.budget.timeout_ms) as plan:
            if not plan.is_recorded:
                return await self._lane.run(task, watch)
            stages = _Stages(plan, watch)
            try:
                return await self._lane.run(task, stages)
            finally:
                stages.now.end()


class _Stages:
    """What a task is at, one span after the other; passes on what it hears."""

    def __init__(self, plan: Span, watch: PlanningWatch) -> None:
        self._plan = plan
        self._watch = watch
        self.now = telemetry.waiting(plan)

    def admitted(self, process_ms: float) -> None:
        self._watch.admitted(process_ms)

    def begun(self) -> None:
        self.now.end()
        self.now = telemetry.searching(self._plan)
        self._watch.begun()
