"""What every face calls: it maps, refuses what is against the rules, and leaves the rest to the lane."""

from types import SimpleNamespace
from typing import Any

import pytest
from lane_doubles import unit_plan
from planning_doubles import NoAllowance, configured
from throttling_sequencer.application.planning import UNWATCHED, Planning, PlanningTask, PlanningWatch
from throttling_sequencer.domain.errors import InvalidValueError, UnknownStrategyError
from throttling_sequencer.domain.game import Coordinate, UnitGoal
from throttling_sequencer.domain.genetic_path import GeneticConfiguration
from throttling_sequencer.domain.navigation import Budget
from throttling_sequencer.domain.unit_plan import UnitPlan

GOALS = [UnitGoal(Coordinate(9, 0), 5)]


class RecordingLane:
    """A lane that remembers what it was asked, and has always the same answer."""

    def __init__(self) -> None:
        self.tasks: list[PlanningTask] = []

    async def run(self, task: PlanningTask, watch: PlanningWatch = UNWATCHED) -> list[UnitPlan]:
        self.tasks.append(task)
        return [unit_plan(course, 5) for course in task.courses]


@pytest.fixture
def lane() -> RecordingLane:
    return RecordingLane()


@pytest.fixture
def planning(lane: RecordingLane) -> Planning:
    limits = SimpleNamespace(max_units=2, processes=2, strategies=("genetic", "random"))
    return Planning(lane, configured(GeneticConfiguration(timeout_ms=70)), limits, NoAllowance())


async def test_the_lane_gets_all_that_it_has_to_know(planning: Planning, lane: RecordingLane) -> None:
    assert await planning.calculate_throttle_steps(_state(), asker="ann", strategy="random", seed=4) == GOALS
    (task,) = lane.tasks
    assert task.budget == Budget(70, 4)
    assert task.strategy == "random"
    assert task.configuration == GeneticConfiguration(timeout_ms=70)
    assert task.courses[0].target.coordinate == Coordinate(9, 0)


async def test_without_a_strategy_the_configured_one_decides(planning: Planning, lane: RecordingLane) -> None:
    await planning.calculate_throttle_steps(_state(), asker="ann")
    assert lane.tasks[0].strategy is None


async def test_an_unknown_strategy_is_refused_by_name(planning: Planning, lane: RecordingLane) -> None:
    with pytest.raises(UnknownStrategyError, match=r"^strategy should be one of genetic, random$"):
        await planning.calculate_throttle_steps(_state(), asker="ann", strategy="magic")
    assert lane.tasks == []


@pytest.mark.parametrize(
    ("players", "seed", "field"), [(0, None, "player_units"), (3, None, "player_units"), (1, -1, "seed")]
)
async def test_what_breaks_a_rule_never_reaches_the_lane(
    planning: Planning, lane: RecordingLane, players: int, seed: int | None, field: str
) -> None:
    with pytest.raises(InvalidValueError) as caught:
        await planning.calculate_throttle_steps(_state(players), asker="ann", seed=seed)
    assert caught.value.field == field
    assert lane.tasks == []


def _state(players: int = 1) -> Any:
    def unit(x: float) -> Any:
        return SimpleNamespace(coordinate=SimpleNamespace(x=x, y=0.0), speed=0.0, mass=1.0, friction=0.0)

    return SimpleNamespace(player_units=[unit(0) for _ in range(players)], enemy_units=[unit(9)])
