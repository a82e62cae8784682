"""The composition root: swapping an implementation is a change of the registry alone."""

from planning_doubles import FullThrottle, register_full_throttle
from throttling_sequencer.application.planning import PlanningTask
from throttling_sequencer.di.container import build_container
from throttling_sequencer.di.planning import lane_planner, register_planning
from throttling_sequencer.domain.game import Coordinate, GameState, Unit, UnitGoal
from throttling_sequencer.domain.genetic_path import GeneticConfiguration, GeneticPathFinder
from throttling_sequencer.domain.navigation import Budget, Objective, keep_going
from throttling_sequencer.domain.unit_plan import Course
from throttling_sequencer.services.throttle_steps_service import ThrottleStepsService

UNITS = (Unit(Coordinate(0, 0), 0, 10, 0.01), Unit(Coordinate(5000, 0), 0, 10, 0.01))
STATE = GameState(UNITS[:1], UNITS[1:])


def test_the_service_gets_the_registered_path_finder() -> None:
    with build_container(register_planning) as container:
        assert isinstance(container.get(ThrottleStepsService).path_finder, GeneticPathFinder)


def test_another_path_finder_takes_one_more_part_of_the_registry() -> None:
    with build_container(register_planning, register_full_throttle) as container:
        service = container.get(ThrottleStepsService)
    assert isinstance(service.path_finder, FullThrottle)
    assert service.calculate_throttle_steps(STATE, Objective(), Budget()) == [UnitGoal(Coordinate(5000, 0), 300)]


def test_a_planning_process_plans_with_the_same_parts() -> None:
    assert _throttles(GeneticConfiguration(throttle_range=(0, 77)), None) == (77,)


def test_a_task_may_name_its_strategy() -> None:
    throttles = _throttles(GeneticConfiguration(timeout_ms=10), "random")
    assert len(throttles) >= 1
    assert throttles != (300,)


def _throttles(configuration: GeneticConfiguration, strategy: str | None) -> tuple[int, ...]:
    task = PlanningTask((Course(0, 0, *UNITS),), configuration, Budget(10), strategy)
    (plan,) = lane_planner(register_planning, register_full_throttle)(task, keep_going)
    return plan.plan.throttles
