"""Plans for game states that users keep: they name one, instead of sending it."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol
from uuid import UUID

from throttling_sequencer.application.live_goals import LiveGoals
from throttling_sequencer.application.mappers import GameStateShape
from throttling_sequencer.application.planned_units import PlannedUnit
from throttling_sequencer.application.planning import Planning
from throttling_sequencer.domain.game import UnitGoal


class ScenarioStore(Protocol):
    """Where users keep game states."""

    async def scenario(self, scenario_id: UUID, *, asker: str, is_admin: bool) -> GameStateShape:
        """Return a scenario that who asks may see: an administrator sees anybody's.

        What it raises where there is none, or the storage is away, clients may see.
        """
        ...


class ScenarioPlanning:
    """Plans as `Planning` and `LiveGoals` do, for a scenario that `asker` may see, be it as an administrator.

    Every method raises what theirs and the store's raise.
    """

    def __init__(self, scenarios: ScenarioStore, planning: Planning, live_goals: LiveGoals) -> None:
        self._scenarios = scenarios
        self._planning = planning
        self._live_goals = live_goals

    async def calculate_throttle_steps(
        self,
        scenario_id: UUID,
        *,
        asker: str,
        is_admin: bool = False,
        strategy: str | None = None,
        seed: int | None = None,
    ) -> list[UnitGoal]:
        """Return the goals of the scenario's first player unit on its way to its first enemy unit."""
        game_state = await self._scenarios.scenario(scenario_id, asker=asker, is_admin=is_admin)
        return await self._planning.calculate_throttle_steps(game_state, asker=asker, strategy=strategy, seed=seed)

    async def plan(
        self,
        scenario_id: UUID,
        *,
        asker: str,
        is_admin: bool = False,
        strategy: str | None = None,
        budget_ms: int | None = None,
        seed: int | None = None,
        targets: Sequence[int] | None = None,
        include: Sequence[str] = (),
    ) -> list[PlannedUnit]:
        """Plan for each player unit of the scenario."""
        game_state = await self._scenarios.scenario(scenario_id, asker=asker, is_admin=is_admin)
        return await self._planning.plan(
            game_state,
            asker=asker,
            strategy=strategy,
            budget_ms=budget_ms,
            seed=seed,
            targets=targets,
            include=include,
        )

    async def generate_steps(
        self,
        scenario_id: UUID,
        *,
        asker: str,
        is_admin: bool = False,
        strategy: str | None = None,
        seed: int | None = None,
    ) -> AsyncGenerator[UnitGoal, None]:
        """Plan as `calculate_throttle_steps` does, and return the goals as they fall due."""
        game_state = await self._scenarios.scenario(scenario_id, asker=asker, is_admin=is_admin)
        return await self._live_goals.generate_steps(game_state, asker=asker, strategy=strategy, seed=seed)
