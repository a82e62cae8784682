"""The lane as numbers."""

import time

from api_server.metrics import Metrics

from throttling_sequencer.application.planning import (
    UNWATCHED,
    LaneBrokenError,
    LaneFullError,
    PlanningLane,
    PlanningTask,
    PlanningTimedOutError,
    PlanningWatch,
)
from throttling_sequencer.domain.unit_plan import UnitPlan
from throttling_sequencer.infrastructure.lane import ProcessLane

# Scores are sums of distances, speeds and hundredths of steps.
_GAPS = (0.0, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
_OUTCOMES = ("planned", "refused", "broken", "timed_out", "failed", "cancelled")


class MeasuredLane:
    """Counts how tasks end, and measures how long they wait, how long they are searched for, and what they come to."""

    def __init__(self, lane: PlanningLane, metrics: Metrics, default_strategy: str) -> None:
        self._lane = lane
        self._default_strategy = default_strategy
        self._plans = metrics.counter(
            "planner_plans", "Plans that were asked of the lane, by what came of them.", "outcome"
        )
        for outcome in _OUTCOMES:
            # Whoever asks how fast they grow has to see them at 0.
            self._plans.labels(outcome)
        self._admitted = metrics.counter("planner_admitted", "Plans that the lane took on.")
        self._promised = metrics.counter(
            "planner_promised_seconds", "Time of processes that admitted plans were promised."
        )
        self._waits = metrics.histogram("planner_wait_seconds", "Time from a plan's admission to its first search.")
        self._searches = metrics.histogram(
            "planner_search_seconds", "Time from a plan's first search to its answer.", "strategy"
        )
        self._gaps = metrics.histogram(
            "planner_gap",
            "How far a plan's score may be above the best, where that was proven; of its worst unit.",
            "strategy",
            buckets=_GAPS,
        )

    async def run(self, task: PlanningTask, watch: PlanningWatch = UNWATCHED) -> list[UnitPlan]:
        """Plan in the lane."""
        stages = _Stages(watch, self)
        # Of whoever is cancelled.
        outcome = "cancelled"
        try:
            plans = await self._lane.run(task, stages)
            outcome = "planned"
        except LaneFullError:
            outcome = "refused"
            raise
        except LaneBrokenError:
            outcome = "broken"
            raise
        except PlanningTimedOutError:
            outcome = "timed_out"
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            self._plans.labels(outcome).inc()
        self._measure(plans, task.strategy or self._default_strategy, stages)
        return plans

    def admitted(self, process_ms: float) -> None:
        """Count a task that the lane took on."""
        self._admitted.inc()
        self._promised.inc(process_ms / 1000)

    def waited(self, seconds: float) -> None:
        """Measure how long a task waited."""
        self._waits.observe(seconds)

    def _measure(self, plans: list[UnitPlan], strategy: str, stages: "_Stages") -> None:
        if stages.begun_at is not None:
            self._searches.labels(strategy).observe(time.monotonic() - stages.begun_at)
        gaps = [gap for plan in plans if (gap := plan.plan.gap) is not None]
        if gaps:
            self._gaps.labels(strategy).observe(max(0.0, *gaps))


class _Stages:
    """When a task was admitted and begun; passes on what it hears."""

    def __init__(self, watch: PlanningWatch, lane: MeasuredLane) -> None:
        self._watch = watch
        self._lane = lane
        self._admitted_at = 0.0
        self.begun_at: float | None = None

    def admitted(self, process_ms: float) -> None:
        self._admitted_at = time.monotonic()
        self._lane.admitted(process_ms)
        self._watch.admitted(process_ms)

    def begun(self) -> None:
        self.begun_at = time.monotonic()
        self._lane.waited(self.begun_at - self._admitted_at)
        self._watch.begun()


def measure_lane(metrics: Metrics, lane: ProcessLane) -> None:
    """Have read what the lane knows of itself."""
    metrics.gauge("planner_plans_waiting", "Plans that wait for a process.", lambda: lane.waiting)
    metrics.gauge("planner_processes_living", "Planning processes that live.", lambda: lane.living)
    metrics.gauge("planner_processes", "Planning processes that there should be.", lambda: lane.workers)
    metrics.gauge(
        "planner_outstanding_seconds",
        "Time of processes that is promised and not spent.",
        lambda: lane.promised_ms / 1000,
    )
