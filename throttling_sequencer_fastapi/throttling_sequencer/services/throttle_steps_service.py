"""The use case: what units must do, step by step, to reach their targets."""

import time
from collections.abc import Sequence

from throttling_sequencer.domain.game import GameState, UnitGoal
from throttling_sequencer.domain.navigation import (
    Budget,
    Objective,
    PathFinder,
    PlanningProblem,
    Progress,
    keep_going,
)
from throttling_sequencer.domain.physics import trajectory
from throttling_sequencer.domain.unit_plan import Course, UnitPlan


class ThrottleStepsService:
    """Plans with whatever path finder it is given."""

    def __init__(self, path_finder: PathFinder) -> None:
        self.path_finder = path_finder

    def calculate_throttle_steps(
        self, game_state: GameState, objective: Objective, budget: Budget, progress: Progress = keep_going
    ) -> list[UnitGoal]:
        """Return the goals, one per step, of the first player unit on its way to the first enemy unit."""
        unit, target = game_state.player_units[0], game_state.enemy_units[0]
        plan = self.path_finder.find_path(PlanningProblem.between(unit, target, objective), budget, progress)
        return [UnitGoal(target.coordinate, throttle) for throttle in plan.throttles]

    def plan(
        self,
        courses: Sequence[Course],
        objective: Objective,
        budget: Budget,
        progress: Progress = keep_going,
        *,
        with_trajectory: bool = False,
    ) -> list[UnitPlan]:
        """Return a plan of each course; they share the budget, and what one leaves is for those after it."""
        started = time.monotonic()
        plans = []
        for done, course in enumerate(courses):
            elapsed = (time.monotonic() - started) * 1000
            share = max(1, int((budget.timeout_ms - elapsed) / (len(courses) - done)))
            its_budget = Budget(share, budget.seed)
            plans.append(self._planned(course, objective, its_budget, progress, with_trajectory=with_trajectory))
        return plans

    def _planned(
        self, course: Course, objective: Objective, budget: Budget, progress: Progress, *, with_trajectory: bool
    ) -> UnitPlan:
        started = time.perf_counter()
        problem = PlanningProblem.between(course.unit, course.target, objective)
        plan = self.path_finder.find_path(problem, budget, progress)
        elapsed_ms = (time.perf_counter() - started) * 1000
        distances, speeds = zip(*trajectory(problem, plan.throttles), strict=True)
        return UnitPlan(
            course.unit_index,
            course.target_index,
            plan,
            final_speed=speeds[-1],
            distance_covered=distances[-1],
            elapsed_ms=elapsed_ms,
            distances=distances if with_trajectory else None,
            speeds=speeds if with_trajectory else None,
        )
