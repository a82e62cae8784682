"""The use case: what a unit must do, step by step, to reach its target."""

from throttling_sequencer.domain.game import GameState, UnitGoal
from throttling_sequencer.domain.navigation import (
    Budget,
    Objective,
    PathFinder,
    PlanningProblem,
    Progress,
    keep_going,
)


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
