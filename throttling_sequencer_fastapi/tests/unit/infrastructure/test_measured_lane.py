"""The lane as numbers, whatever comes of a task."""

import asyncio
from dataclasses import replace

import pytest
from api_server.metrics import Metrics
from lane_doubles import task, unit_plan
from numbers_told import numbers
from throttling_sequencer.application.planning import (
    UNWATCHED,
    LaneBrokenError,
    LaneFullError,
    PlanningTask,
    PlanningTimedOutError,
    PlanningWatch,
)
from throttling_sequencer.domain.unit_plan import UnitPlan
from throttling_sequencer.infrastructure.measured_lane import MeasuredLane


class Lane:
    """Admits a task for 20 ms of two processes, begins it at once, and answers or fails as it was told to."""

    def __init__(self, error: Exception | None = None, bounds: tuple[float | None, ...] = ()) -> None:
        self._error = error
        self._bounds = bounds
        self.begun = asyncio.Event()

    async def run(self, task: PlanningTask, watch: PlanningWatch = UNWATCHED) -> list[UnitPlan]:
        if isinstance(self._error, LaneFullError):
            raise self._error
        watch.admitted(40.0)
        watch.begun()
        self.begun.set()
        if self._error is not None:
            raise self._error
        if task.strategy == "for ever":
            await asyncio.Event().wait()
        plans = [unit_plan(course, 1) for course in task.courses]
        return [
            replace(plan, plan=replace(plan.plan, lower_bound=bound))
            for plan, bound in zip(plans, self._bounds, strict=False)
        ] or plans


class Watch:
    """What a watcher was told, in the order in which it was."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def admitted(self, process_ms: float) -> None:
        self.heard.append(process_ms)

    def begun(self) -> None:
        self.heard.append("begun")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


async def told(metrics: Metrics) -> dict[str, float]:
    return numbers((await metrics.text()).decode())


async def test_a_plan_is_counted_and_its_stages_are_measured(metrics: Metrics) -> None:
    lane, watch = MeasuredLane(Lane(), metrics, "genetic"), Watch()
    await lane.run(task(20), watch)
    await lane.run(task(20, strategy="optimal"))
    found = await told(metrics)
    assert watch.heard == [40.0, "begun"]
    assert (found["planner_admitted_total"], found["planner_plans_total{outcome=planned}"]) == (2, 2)
    assert found["planner_promised_seconds_total"] == pytest.approx(0.08)
    assert found["planner_wait_seconds_count"] == 2
    assert found["planner_search_seconds_count{strategy=genetic}"] == 1
    assert found["planner_search_seconds_count{strategy=optimal}"] == 1
    assert not any(name.startswith("planner_gap_count") for name in found)


async def test_the_gap_is_that_of_the_worst_unit_of_which_it_was_proven(metrics: Metrics) -> None:
    lane = MeasuredLane(Lane(bounds=(-0.05, None, -5.0)), metrics, "optimal")
    await lane.run(task(20, courses=3))
    found = await told(metrics)
    assert found["planner_gap_count{strategy=optimal}"] == 1
    assert found["planner_gap_sum{strategy=optimal}"] == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("error", "outcome", "admitted"),
    [
        (LaneFullError(1.0, 3, 1), "refused", 0),
        (LaneBrokenError(), "broken", 1),
        (PlanningTimedOutError(20), "timed_out", 1),
        (RuntimeError("no plan today"), "failed", 1),
    ],
)
async def test_what_came_of_a_plan_that_is_none_is_counted_and_raised(
    metrics: Metrics, error: Exception, outcome: str, admitted: int
) -> None:
    lane = MeasuredLane(Lane(error), metrics, "genetic")
    before = await told(metrics)
    assert before[f"planner_plans_total{{outcome={outcome}}}"] == 0
    with pytest.raises(type(error)):
        await lane.run(task(20))
    found = await told(metrics)
    assert found[f"planner_plans_total{{outcome={outcome}}}"] == 1
    assert found["planner_admitted_total"] == admitted
    assert not any(name.startswith("planner_search_seconds_count") for name in found)


async def test_a_caller_that_gives_up_is_counted(metrics: Metrics) -> None:
    inner = Lane()
    running = asyncio.create_task(MeasuredLane(inner, metrics, "genetic").run(task(20, strategy="for ever")))
    await inner.begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await told(metrics))["planner_plans_total{outcome=cancelled}"] == 1
