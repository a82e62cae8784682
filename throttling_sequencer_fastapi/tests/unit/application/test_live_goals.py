"""Goals fall due one after the other, at a pace that delays do not push back."""

import asyncio
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from lane_doubles import unit_plan
from planning_doubles import NoAllowance, configured
from throttling_sequencer.application.live_goals import LiveGoals, Pace, paced
from throttling_sequencer.application.planning import UNWATCHED, Planning, PlanningTask, PlanningWatch
from throttling_sequencer.domain.errors import InvalidValueError
from throttling_sequencer.domain.game import Coordinate, UnitGoal
from throttling_sequencer.domain.genetic_path import GeneticConfiguration
from throttling_sequencer.domain.unit_plan import UnitPlan

GOALS = [UnitGoal(Coordinate(9, 1), throttle) for throttle in (-1_000_000, 300, 0, 7, 0, 1_000_000)]


class Lane:
    """A lane that has always the same answer."""

    async def run(self, task: PlanningTask, watch: PlanningWatch = UNWATCHED) -> list[UnitPlan]:
        return [unit_plan(task.courses[0], *(goal.throttle for goal in GOALS))]


@pytest.fixture
def live_goals() -> LiveGoals:
    limits = SimpleNamespace(max_units=2, processes=2, strategies=("genetic",))
    planning = Planning(Lane(), configured(GeneticConfiguration()), limits, NoAllowance())
    return LiveGoals(planning, Pace(step_interval_ms=1))


def state(players: int = 1) -> Any:
    unit = SimpleNamespace(coordinate=SimpleNamespace(x=9.0, y=1.0), speed=0.0, mass=1.0, friction=0.0)
    return SimpleNamespace(player_units=[unit] * players, enemy_units=[unit])


async def arrivals(items: list[int], interval: float, delays: dict[int, float] | None = None) -> list[float]:
    """Return when each item came; whoever takes them is held up before some of them."""
    clock, times = asyncio.get_running_loop().time, []
    async for item in paced(items, interval):
        times.append(clock())
        assert item == len(times) - 1
        await asyncio.sleep((delays or {}).get(item, 0))
    return times


async def test_every_goal_of_the_plan_comes_once_and_in_order(live_goals: LiveGoals) -> None:
    assert [goal async for goal in await live_goals.generate_steps(state(), asker="ann")] == GOALS


async def test_what_is_wrong_is_known_before_there_is_a_stream(live_goals: LiveGoals) -> None:
    with pytest.raises(InvalidValueError, match="player_units"):
        await live_goals.generate_steps(state(players=0), asker="ann")


async def test_the_first_comes_at_once_and_the_others_by_the_interval() -> None:
    begun = asyncio.get_running_loop().time()
    times = await arrivals(list(range(6)), 0.05)
    assert times[0] - begun < 0.02
    assert [after - before for before, after in pairwise(times)] == pytest.approx([0.05] * 5, abs=0.02)


async def test_a_delay_of_less_than_an_interval_is_made_up_for() -> None:
    times = await arrivals(list(range(4)), 0.1, {0: 0.07, 1: 0.07, 2: 0.07})
    assert times[3] - times[0] == pytest.approx(0.3, abs=0.03)


async def test_after_a_longer_delay_there_is_no_burst() -> None:
    times = await arrivals(list(range(5)), 0.05, {1: 0.3})
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps == pytest.approx([0.05, 0.3, 0.05, 0.05], abs=0.025)


async def test_without_an_interval_they_come_at_once() -> None:
    times = await arrivals(list(range(1000)), 0.0)
    assert times[-1] - times[0] < 0.5
