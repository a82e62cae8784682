"""What planning costs who asks: what it may take while it lasts, and what it took when it has ended."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis.strategies import integers
from lane_doubles import task, unit_plan
from planning_doubles import NoAllowance, configured
from throttling_sequencer.application.live_goals import LiveGoals, Pace
from throttling_sequencer.application.planning import (
    UNWATCHED,
    AllowanceSpentError,
    BeyondAllowanceError,
    LaneFullError,
    Planning,
    PlanningTask,
    PlanningWatch,
)
from throttling_sequencer.application.scenarios import ScenarioPlanning
from throttling_sequencer.domain.genetic_path import GeneticConfiguration
from throttling_sequencer.domain.unit_plan import UnitPlan
from throttling_sequencer.infrastructure.admission import Admission
from throttling_sequencer.infrastructure.lane import _parts

PROCESSES = 2
Run: TypeAlias = Callable[[PlanningTask, PlanningWatch], Awaitable[list[UnitPlan]]]


class Lane:
    """A lane that does what the test says."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.asked = 0

    async def run(self, task: PlanningTask, watch: PlanningWatch = UNWATCHED) -> list[UnitPlan]:
        self.asked += 1
        return await self._run(task, watch)


class Scenarios:
    """Scenarios that everybody may see."""

    async def scenario(self, scenario_id: Any, *, asker: str, is_admin: bool) -> Any:
        return state(1)


@pytest.fixture
def allowance() -> NoAllowance:
    return NoAllowance()


def planning(run: Run, allowance: NoAllowance) -> Planning:
    return planning_on(Lane(run), allowance)


def planning_on(lane: Lane, allowance: NoAllowance) -> Planning:
    limits = SimpleNamespace(
        max_units=100, max_budget_ms=5000, processes=PROCESSES, strategies=("random",), default_strategy="random"
    )
    return Planning(lane, configured(GeneticConfiguration(timeout_ms=70)), limits, allowance)


def state(players: int) -> Any:
    unit = SimpleNamespace(coordinate=SimpleNamespace(x=0.0, y=0.0), speed=0.0, mass=1.0, friction=0.0)
    return SimpleNamespace(player_units=[unit] * players, enemy_units=[unit])


async def answer(task: PlanningTask, watch: PlanningWatch) -> list[UnitPlan]:
    """Take 1.5 ms for each unit."""
    watch.admitted(task.process_ms(PROCESSES))
    watch.begun()
    return [replace(unit_plan(course, 5), elapsed_ms=1.5) for course in task.courses]


async def refuse(task: PlanningTask, watch: PlanningWatch) -> list[UnitPlan]:
    raise LaneFullError(1.0, 1, 1)


@pytest.mark.parametrize(("players", "budget_ms", "reserved"), [(1, 400, 400), (2, 400, 800), (9, 400, 800), (9, 1, 9)])
async def test_it_costs_its_budget_on_every_process_and_then_what_it_took(
    allowance: NoAllowance, players: int, budget_ms: int, reserved: int
) -> None:
    await planning(answer, allowance).plan(state(players), asker="ann", budget_ms=budget_ms)
    assert allowance.reserved == [("ann", reserved)]
    assert allowance.settled == [("ann", reserved, 1.5 * players)]


async def test_it_costs_who_asks_by_whatever_way(allowance: NoAllowance) -> None:
    plans = planning(answer, allowance)
    live = LiveGoals(plans, Pace(0))
    scenarios = ScenarioPlanning(Scenarios(), plans, live)
    scenario: Any = None
    await plans.calculate_throttle_steps(state(1), asker="a")
    await plans.plan(state(1), asker="b")
    await live.generate_steps(state(1), asker="c")
    await scenarios.calculate_throttle_steps(scenario, asker="d")
    await scenarios.plan(scenario, asker="e", budget_ms=30)
    await scenarios.generate_steps(scenario, asker="f")
    assert allowance.reserved == [("a", 70), ("b", 70), ("c", 70), ("d", 70), ("e", 30), ("f", 70)]
    assert [name for name, *_ in allowance.settled] == list("abcdef")


async def test_who_has_spent_all_does_not_reach_the_lane(allowance: NoAllowance) -> None:
    lane = Lane(answer)
    allowance.error = AllowanceSpentError(70, 50, 9)
    with pytest.raises(AllowanceSpentError) as caught:
        await planning_on(lane, allowance).plan(state(1), asker="ann")
    assert (caught.value.code, caught.value.retry_after_s) == ("RATE_LIMITED", 9)
    assert (lane.asked, allowance.settled) == (0, [])


async def test_what_the_lane_refuses_costs_nothing(allowance: NoAllowance) -> None:
    with pytest.raises(LaneFullError):
        await planning(refuse, allowance).plan(state(1), asker="ann")
    assert allowance.settled == [("ann", 70, 0.0)]


async def test_what_only_waited_costs_nothing(allowance: NoAllowance) -> None:
    waits = asyncio.Event()

    async def wait(task: PlanningTask, watch: PlanningWatch) -> list[UnitPlan]:
        watch.admitted(70.0)
        waits.set()
        await asyncio.Event().wait()
        raise AssertionError

    asked = asyncio.create_task(planning(wait, allowance).plan(state(1), asker="ann"))
    await waits.wait()
    assert (allowance.reserved, allowance.settled) == ([("ann", 70)], [])
    asked.cancel()
    await asyncio.wait([asked])
    assert allowance.settled == [("ann", 70, 0.0)]


@pytest.mark.parametrize(("promised_ms", "least", "most"), [(10_000.0, 2 * 50, 10_000), (30.0, 30, 30)])
async def test_what_fails_costs_its_time_on_its_processes_and_no_more_than_was_promised(
    allowance: NoAllowance, promised_ms: float, least: float, most: float
) -> None:
    async def fail(task: PlanningTask, watch: PlanningWatch) -> list[UnitPlan]:
        watch.admitted(promised_ms)
        watch.begun()
        await asyncio.sleep(0.05)
        raise RuntimeError("no plan today")

    with pytest.raises(RuntimeError):
        await planning(fail, allowance).plan(state(9), asker="ann", budget_ms=5000)
    ((_, reserved, used),) = allowance.settled
    assert reserved == 10_000
    assert least <= used <= most


@pytest.mark.parametrize(
    ("most_ms", "players", "budget_ms", "field", "rule"),
    [
        (69, 1, None, "budget_ms", "should be at most 69 here: nobody has more than 69 ms of planning in a minute"),
        (
            99,
            2,
            50,
            "budget_ms",
            "should be at most 49, on 2 processes, here: nobody has more than 99 ms of planning in",
        ),
        (9, 10, 1, "player_units", "should hold at most 9 units: nobody has more than 9 ms of planning in a minute"),
    ],
)
async def test_what_nobody_may_ever_ask_for_is_refused_by_its_field(
    allowance: NoAllowance, most_ms: int, players: int, budget_ms: int | None, field: str, rule: str
) -> None:
    lane = Lane(answer)
    allowance.most_ms = most_ms
    with pytest.raises(BeyondAllowanceError) as caught:
        await planning_on(lane, allowance).plan(state(players), asker="ann", budget_ms=budget_ms)
    assert (caught.value.code, caught.value.field) == ("BEYOND_ALLOWANCE", field)
    assert caught.value.rule.startswith(rule)
    assert (lane.asked, allowance.reserved) == (0, [])


@given(timeout_ms=integers(1, 5000), courses=integers(1, 400), workers=integers(1, 64))
def test_what_is_reserved_is_what_the_lane_promises(timeout_ms: int, courses: int, workers: int) -> None:
    asked = task(timeout_ms, courses)
    sizes = [len(part.courses) for part in _parts(asked, workers)]
    promise = Admission(workers, 0, 0.0).admit(asked.budget.timeout_ms, sizes, 0.0)
    assert promise.left == pytest.approx(asked.process_ms(workers))
    assert promise.width == asked.width(workers)
