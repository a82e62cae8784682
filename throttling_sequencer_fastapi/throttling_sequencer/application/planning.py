"""Planning as every face asks for it: map, admit, run in the lane, answer."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from throttling_sequencer.application.mappers import GameStateShape, to_game_state
from throttling_sequencer.domain.errors import UnknownStrategyError
from throttling_sequencer.domain.game import GameState, UnitGoal
from throttling_sequencer.domain.genetic_path import GeneticConfiguration
from throttling_sequencer.domain.navigation import Budget


@dataclass(frozen=True, slots=True)
class PlanningTask:
    """Everything that a planning process has to know; it crosses a process boundary. No strategy means the default."""

    game_state: GameState
    configuration: GeneticConfiguration
    budget: Budget
    strategy: str | None = None


class LaneFullError(Exception):
    """As many plans are waiting as may wait."""

    code: ClassVar[str] = "LANE_FULL"

    def __init__(self, waiting: int, retry_after_s: int) -> None:
        super().__init__(f"{waiting} plans are waiting already; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class LaneBrokenError(Exception):
    """The planning processes cannot be used: one of them was killed, or the service is stopping."""

    code: ClassVar[str] = "LANE_BROKEN"
    retry_after_s = 1

    def __init__(self) -> None:
        super().__init__("the planning process went away before it answered; try again")


class PlanningLane(Protocol):
    """Where searches run: never on the event loop, and only so many at a time."""

    async def run(self, task: PlanningTask) -> list[UnitGoal]:
        """Return the task's goals. Raises LaneFullError at once where no more may wait, LaneBrokenError on a crash."""
        ...


class PlanningLimits(Protocol):
    """What a request may ask for at most, and the names of the strategies."""

    @property
    def max_units(self) -> int: ...
    @property
    def strategies(self) -> tuple[str, ...]: ...


class Planning:
    """Plans throttles; what every face calls."""

    def __init__(self, lane: PlanningLane, configuration: GeneticConfiguration, limits: PlanningLimits) -> None:
        self._lane = lane
        self._configuration = configuration
        self._limits = limits

    async def calculate_throttle_steps(
        self, game_state: GameStateShape, *, strategy: str | None = None, seed: int | None = None
    ) -> list[UnitGoal]:
        """Return the goals of the first player unit on its way to the first enemy unit.

        Raises InvalidValueError for a value that breaks a rule, UnknownStrategyError, LaneFullError, LaneBrokenError.
        """
        if strategy is not None and strategy not in self._limits.strategies:
            raise UnknownStrategyError(sorted(self._limits.strategies))
        task = PlanningTask(
            to_game_state(game_state, self._limits.max_units),
            self._configuration,
            Budget(self._configuration.timeout_ms, seed),
            strategy,
        )
        return await self._lane.run(task)
