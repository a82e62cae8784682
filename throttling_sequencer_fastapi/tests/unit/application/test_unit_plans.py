"""Plans of every unit: whom each heads for, what may be asked, and what is told of each."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from lane_doubles import unit_plan
from planning_doubles import NoAllowance, configured
from throttling_sequencer.application.planned_units import CoordinateColumns, PlannedUnit, Trajectory
from throttling_sequencer.application.planning import UNWATCHED, Planning, PlanningTask, PlanningWatch
from throttling_sequencer.domain.errors import InvalidValueError, UnknownStrategyError
from throttling_sequencer.domain.genetic_path import GeneticConfiguration
from throttling_sequencer.domain.navigation import Budget, ScoreParts, ThrottlePlan
from throttling_sequencer.domain.unit_plan import UnitPlan


class RecordingLane:
    """A lane that remembers what it was asked, and answers with distances where they are asked for."""

    def __init__(self) -> None:
        self.tasks: list[PlanningTask] = []

    async def run(self, task: PlanningTask, watch: PlanningWatch = UNWATCHED) -> list[UnitPlan]:
        self.tasks.append(task)
        plans = [unit_plan(course, 5) for course in task.courses]
        if task.with_trajectory:
            plans = [replace(plan, distances=(1.0, 5.0), speeds=(1.0, 4.0)) for plan in plans]
        return plans


@pytest.fixture
def lane() -> RecordingLane:
    return RecordingLane()


@pytest.fixture
def planning(lane: RecordingLane) -> Planning:
    return planning_on(lane)


def planning_on(lane: Any, max_units: int = 3) -> Planning:
    limits = SimpleNamespace(
        max_units=max_units,
        max_trajectory_units=2,
        max_budget_ms=900,
        processes=2,
        strategies=("genetic", "random"),
        default_strategy="genetic",
    )
    return Planning(lane, configured(GeneticConfiguration(timeout_ms=70)), limits, NoAllowance())


async def test_each_unit_heads_for_the_nearest_enemy(planning: Planning, lane: RecordingLane) -> None:
    planned = await planning.plan(state(players=[0, 10, 4], enemies=[9, 1]), asker="ann")
    assert [(unit.unit, unit.target) for unit in planned] == [(0, 1), (1, 0), (2, 1)]
    assert [course.target.coordinate.x for course in lane.tasks[0].courses] == [1, 9, 1]


async def test_targets_may_be_given(planning: Planning, lane: RecordingLane) -> None:
    planned = await planning.plan(state(players=[0, 10], enemies=[9, 1]), asker="ann", targets=[0, 0])
    assert [(unit.unit, unit.target) for unit in planned] == [(0, 0), (1, 0)]
    assert [course.target.coordinate.x for course in lane.tasks[0].courses] == [9, 9]


async def test_the_lane_gets_all_that_it_has_to_know(planning: Planning, lane: RecordingLane) -> None:
    planned = await planning.plan(state(), asker="ann", strategy="random", budget_ms=900, seed=4)
    (task,) = lane.tasks
    assert (task.budget, task.strategy, task.with_trajectory) == (Budget(900, 4), "random", False)
    assert task.configuration == GeneticConfiguration(timeout_ms=70)
    assert [unit.strategy for unit in planned] == ["random"]


async def test_without_wishes_the_configuration_decides(planning: Planning, lane: RecordingLane) -> None:
    planned = await planning.plan(state(), asker="ann")
    assert (lane.tasks[0].budget, lane.tasks[0].strategy) == (Budget(70), None)
    assert [(unit.strategy, unit.trajectory) for unit in planned] == [("genetic", None)]


async def test_a_trajectory_is_told_where_it_is_asked_for(planning: Planning) -> None:
    (planned,) = await planning.plan(state(enemies=[-9]), asker="ann", include=["trajectory"])
    assert planned.trajectory == Trajectory((1.0, 4.0), (1.0, 5.0), CoordinateColumns((-1.0, -5.0), (0.0, 0.0)))


def test_a_plan_is_told_with_everything_that_explains_it() -> None:
    plan = ThrottlePlan((7, 0), ScoreParts(1.0, 2.0, 3.0, 4.0), generations=5, seed=6, lower_bound=9.5)
    course = SimpleNamespace(unit_index=1, target_index=2)
    told = PlannedUnit.of(course, UnitPlan(1, 2, plan, 8.0, 9.0, 0.25), "optimal")  # type: ignore[arg-type]  # its places are all that counts
    assert told == PlannedUnit(
        unit=1,
        target=2,
        strategy="optimal",
        throttles=(7, 0),
        score=10.0,
        score_parts=ScoreParts(1.0, 2.0, 3.0, 4.0),
        lower_bound=9.5,
        gap=0.5,
        final_speed=8.0,
        distance_covered=9.0,
        generations=5,
        seed=6,
        elapsed_ms=0.25,
        trajectory=None,
    )


@pytest.mark.parametrize(
    ("wishes", "field", "rule"),
    [
        ({"targets": []}, "targets", "should hold the index of an enemy unit for each player unit"),
        ({"targets": [0, 0, 0]}, "targets", "should hold the index of an enemy unit for each player unit"),
        ({"targets": [0, 1]}, "targets[1]", "should be a number from 0 to 0"),
        ({"targets": [-1, 0]}, "targets[0]", "should be a number from 0 to 0"),
        ({"targets": [10**400, 0]}, "targets[0]", "should be a number from 0 to 0"),
        ({"budget_ms": 0}, "budget_ms", "should be a number from 1 to 900"),
        ({"budget_ms": 901}, "budget_ms", "should be a number from 1 to 900"),
        ({"seed": -1}, "seed", "should be a number from 0 to 2147483647"),
        ({"include": ["trajectory", "colour"]}, "include[1]", "should be one of trajectory"),
    ],
)
async def test_a_wish_against_the_rules_never_reaches_the_lane(
    planning: Planning, lane: RecordingLane, wishes: dict[str, Any], field: str, rule: str
) -> None:
    with pytest.raises(InvalidValueError) as caught:
        await planning.plan(state(players=[0, 1]), asker="ann", **wishes)
    assert (caught.value.field, caught.value.rule) == (field, rule)
    assert lane.tasks == []


async def test_an_unknown_strategy_is_refused_by_name(planning: Planning) -> None:
    with pytest.raises(UnknownStrategyError, match=r"^strategy should be one of genetic, random$"):
        await planning.plan(state(), asker="ann", strategy="magic")


async def test_so_many_units_may_be_planned_and_fewer_with_trajectories(planning: Planning) -> None:
    assert len(await planning.plan(state(players=[0, 1, 2]), asker="ann")) == 3
    with pytest.raises(InvalidValueError, match=r"^player_units should hold at most 3 units$"):
        await planning.plan(state(players=[0, 1, 2, 3]), asker="ann")
    assert len(await planning.plan(state(players=[0, 1]), asker="ann", include=["trajectory"])) == 2
    with pytest.raises(InvalidValueError, match=r"^include should name trajectory for at most 2 player units$"):
        await planning.plan(state(players=[0, 1, 2]), asker="ann", include=["trajectory"])


async def test_a_million_distances_do_not_hold_the_event_loop() -> None:
    planning = planning_on(RecordingLane(), max_units=1000)
    crowd = state(players=list(range(1000)), enemies=list(range(1000)))
    answer, turns = asyncio.create_task(planning.plan(crowd, asker="ann")), 0
    while not answer.done():
        turns += 1
        await asyncio.sleep(0)
    assert len(await answer) == 1000
    assert turns >= 10


def state(players: list[float] | None = None, enemies: list[float] | None = None) -> Any:
    def unit(x: float) -> Any:
        return SimpleNamespace(coordinate=SimpleNamespace(x=x, y=0.0), speed=0.0, mass=1.0, friction=0.0)

    return SimpleNamespace(player_units=list(map(unit, players or [0])), enemy_units=list(map(unit, enemies or [9])))
