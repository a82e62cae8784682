"""Planning as every face asks for it: map, admit, run in the lane, answer."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from throttling_sequencer.application.configuration import CurrentConfiguration
from throttling_sequencer.application.deadline import Clock
from throttling_sequencer.application.mappers import GameStateShape, to_game_state
from throttling_sequencer.application.planned_units import PlanDetail, PlannedUnit, details
from throttling_sequencer.application.turns import in_turns
from throttling_sequencer.domain.errors import InvalidValueError, UnknownStrategyError
from throttling_sequencer.domain.game import GameState, UnitGoal, nearest_targets
from throttling_sequencer.domain.genetic_path import GeneticConfiguration
from throttling_sequencer.domain.navigation import Budget
from throttling_sequencer.domain.rules import require_between
from throttling_sequencer.domain.unit_plan import Course, UnitPlan


@dataclass(frozen=True, slots=True)
class PlanningTask:
    """Everything that a planning process has to know; it crosses a process boundary.

    The courses share the budget. No strategy means the default.
    """

    courses: tuple[Course, ...]
    configuration: GeneticConfiguration
    budget: Budget
    strategy: str | None = None
    with_trajectory: bool = False

    def width(self, processes: int) -> int:
        """How many of so many processes may plan it at the same time."""
        return min(processes, len(self.courses))

    def process_ms(self, processes: int) -> int:
        """How many milliseconds of so many processes it takes at most; a course takes one at least."""
        return max(self.budget.timeout_ms * self.width(processes), len(self.courses))


class LaneFullError(Exception):
    """As much planning is promised, or as many plans are waiting, as may be."""

    code: ClassVar[str] = "LANE_FULL"

    def __init__(self, wait_s: float, waiting: int, retry_after_s: int) -> None:
        super().__init__(
            f"planning is promised for the next {wait_s:.1f} s, and {waiting} plans are waiting; "
            f"try again in {retry_after_s} s"
        )
        self.retry_after_s = retry_after_s


class LaneBrokenError(Exception):
    """The planning processes cannot be used: they were killed, or the service is stopping."""

    code: ClassVar[str] = "LANE_BROKEN"
    retry_after_s = 1

    def __init__(self) -> None:
        super().__init__("the planning process went away before it answered; try again")


class PlanningTimedOutError(Exception):
    """A plan was not ready when its time was over, nor shortly after."""

    code: ClassVar[str] = "DEADLINE_EXCEEDED"

    def __init__(self, budget_ms: int) -> None:
        super().__init__(f"the plan was not ready in time; its budget was {budget_ms} ms")


class AllowanceSpentError(Exception):
    """Somebody has had, or is having, as much planned as one may in a minute."""

    code: ClassVar[str] = "RATE_LIMITED"

    def __init__(self, process_ms: int, most_ms: int, retry_after_s: int) -> None:
        super().__init__(
            f"this may take {process_ms} ms of planning, and less is left of the {most_ms} ms that you have in a "
            f"minute; try again in {retry_after_s} s"
        )
        self.retry_after_s = retry_after_s


class ShareTakenError(Exception):
    """Somebody has as much waiting as one may have while others ask too."""

    code: ClassVar[str] = "RATE_LIMITED"
    retry_after_s = 1

    def __init__(self) -> None:
        super().__init__(
            "half of the planning that may wait is yours already, and others want to plan too; "
            f"try again in {self.retry_after_s} s"
        )


class BeyondAllowanceError(InvalidValueError):
    """A request may take more planning than anybody has in a minute: it would be refused for ever."""

    code: ClassVar[str] = "BEYOND_ALLOWANCE"


class PlanningAllowance(Protocol):
    """How much of the planning processes' time each principal may have: `most_ms` milliseconds in a minute.

    None of the methods waits.
    """

    @property
    def most_ms(self) -> int: ...

    def reserve(self, principal: str, process_ms: int) -> None:
        """Hold so much of what a principal has left. Raises AllowanceSpentError where that is less.

        Raises ShareTakenError where others ask too and so much is held already that there would be no room for them.
        """
        ...

    def settle(self, principal: str, process_ms: int, used_ms: float) -> None:
        """Hold no longer what was reserved, and take away what was used."""
        ...


class PlanningWatch(Protocol):
    """Hears how a task fares. Neither method may raise, or wait."""

    def admitted(self, process_ms: float) -> None:
        """Hear that it is promised so many milliseconds of the lane's processes, at most."""

    def begun(self) -> None:
        """Hear that the first of it is planned now: what came before was waiting."""


class Unwatched:
    """Watches nothing."""

    def admitted(self, process_ms: float) -> None:
        """Make nothing of it."""

    def begun(self) -> None:
        """Make nothing of it."""


UNWATCHED = Unwatched()


class _Meter:
    """Knows how much of the lane a task has had, while that is all that is known of it."""

    def __init__(self, width: int, clock: Clock) -> None:
        self._width = width
        self._clock = clock
        self._promised_ms = 0.0
        self._begun: float | None = None

    def admitted(self, process_ms: float) -> None:
        self._promised_ms = process_ms

    def begun(self) -> None:
        self._begun = self._clock()

    @property
    def most_ms(self) -> float:
        """What it can have had since it began; nothing before."""
        if self._begun is None:
            return 0.0
        return min(self._promised_ms, (self._clock() - self._begun) * 1000 * self._width)


class PlanningLane(Protocol):
    """Where searches run: never on the event loop, and only so many at a time."""

    async def run(self, task: PlanningTask, watch: PlanningWatch = UNWATCHED) -> list[UnitPlan]:
        """Return a plan of each of the task's courses, in their order.

        `watch` hears of its admission before this waits for anything. Raises LaneFullError at once where the task would
        wait for too long, LaneBrokenError where processes were killed, PlanningTimedOutError where a search does not
        keep to its budget.
        """
        ...


class PlanningLimits(Protocol):
    """What a request may ask for at most, and the names of the strategies."""

    @property
    def max_units(self) -> int: ...
    @property
    def max_trajectory_units(self) -> int: ...
    @property
    def max_budget_ms(self) -> int: ...
    @property
    def processes(self) -> int: ...
    @property
    def strategies(self) -> tuple[str, ...]: ...
    @property
    def default_strategy(self) -> str: ...


class Planning:
    """Plans throttles; what every face calls. `asker` is who asks, and whose allowance it costs."""

    def __init__(
        self,
        lane: PlanningLane,
        configuration: CurrentConfiguration,
        limits: PlanningLimits,
        allowance: PlanningAllowance,
    ) -> None:
        self._lane = lane
        self._configuration = configuration
        self._limits = limits
        self._allowance = allowance

    async def calculate_throttle_steps(
        self, game_state: GameStateShape, *, asker: str, strategy: str | None = None, seed: int | None = None
    ) -> list[UnitGoal]:
        """Return the goals of the first player unit on its way to the first enemy unit.

        Raises InvalidValueError for a value that breaks a rule, UnknownStrategyError, BeyondAllowanceError,
        AllowanceSpentError, ShareTakenError, LaneFullError, LaneBrokenError, PlanningTimedOutError.
        """
        self._require_known(strategy)
        state = to_game_state(game_state, self._limits.max_units)
        course = Course(0, 0, state.player_units[0], state.enemy_units[0])
        configuration = self._configuration.value
        budget = Budget(configuration.timeout_ms, seed)
        (plan,) = await self._run(PlanningTask((course,), configuration, budget, strategy), asker)
        return [UnitGoal(course.target.coordinate, throttle) for throttle in plan.plan.throttles]

    async def plan(
        self,
        game_state: GameStateShape,
        *,
        asker: str,
        strategy: str | None = None,
        budget_ms: int | None = None,
        seed: int | None = None,
        targets: Sequence[int] | None = None,
        include: Sequence[str] = (),
    ) -> list[PlannedUnit]:
        """Plan for each player unit, towards the nearest enemy unit or the one that `targets` names by its index.

        `budget_ms` is for the search as a whole, by default the configured time of one search; each unit is planned
        with the `seed` itself. Raises what `calculate_throttle_steps` raises.
        """
        self._require_known(strategy)
        configuration = self._configuration.value
        if budget_ms is not None:
            require_between("budget_ms", budget_ms, 1, self._limits.max_budget_ms)
        budget = Budget(configuration.timeout_ms if budget_ms is None else budget_ms, seed)
        with_trajectory = PlanDetail.TRAJECTORY in details(include)
        state = to_game_state(game_state, self._limits.max_units)
        if with_trajectory and len(state.player_units) > self._limits.max_trajectory_units:
            most = self._limits.max_trajectory_units
            raise InvalidValueError("include", f"should name trajectory for at most {most} player units")
        courses = await _courses(state, targets)
        plans = await self._run(PlanningTask(courses, configuration, budget, strategy, with_trajectory), asker)
        named = strategy or self._limits.default_strategy
        planned = (PlannedUnit.of(course, plan, named) for course, plan in zip(courses, plans, strict=True))
        return [unit async for unit in in_turns(planned)]

    def require_acceptable(
        self,
        state: GameState,
        *,
        strategy: str | None = None,
        budget_ms: int | None = None,
        seed: int | None = None,
        targets: Sequence[int] | None = None,
    ) -> None:
        """Raise InvalidValueError or UnknownStrategyError where `plan` would, and plan nothing."""
        self._require_known(strategy)
        if budget_ms is not None:
            require_between("budget_ms", budget_ms, 1, self._limits.max_budget_ms)
        _ = Budget(seed=seed)
        _require_targets(state, targets)

    @property
    def default_budget_ms(self) -> int:
        """The milliseconds that `plan` searches where a request does not say."""
        return self._configuration.value.timeout_ms

    async def _run(self, task: PlanningTask, asker: str) -> list[UnitPlan]:
        """Plan in the lane, which costs who asks what it may take at most, and when it has ended what it took."""
        process_ms = task.process_ms(self._limits.processes)
        if process_ms > self._allowance.most_ms:
            raise _beyond(self._allowance.most_ms, task, self._limits.processes)
        self._allowance.reserve(asker, process_ms)
        meter = _Meter(task.width(self._limits.processes), time.monotonic)
        used_ms = None
        try:
            plans = await self._lane.run(task, meter)
            used_ms = sum(plan.elapsed_ms for plan in plans)
        finally:
            self._allowance.settle(asker, process_ms, meter.most_ms if used_ms is None else used_ms)
        return plans

    def _require_known(self, strategy: str | None) -> None:
        if strategy is not None and strategy not in self._limits.strategies:
            raise UnknownStrategyError(sorted(self._limits.strategies))


async def _courses(state: GameState, targets: Sequence[int] | None) -> tuple[Course, ...]:
    players, enemies = state.player_units, state.enemy_units
    _require_targets(state, targets)
    if targets is None:
        # A thousand units a side are a million distances.
        targets = [target async for target in in_turns(nearest_targets(state))]
    return tuple(
        Course(place, target, unit, enemies[target])
        for place, (unit, target) in enumerate(zip(players, targets, strict=True))
    )


def _beyond(most_ms: int, task: PlanningTask, processes: int) -> BeyondAllowanceError:
    """Tell what may be asked for: nobody has more than so many milliseconds of the processes in a minute."""
    reason = f"nobody has more than {most_ms} ms of planning in a minute"
    if len(task.courses) > most_ms:
        return BeyondAllowanceError("player_units", f"should hold at most {most_ms} units: {reason}")
    width = task.width(processes)
    of_all = f", on {width} processes," if width > 1 else ""
    return BeyondAllowanceError("budget_ms", f"should be at most {most_ms // width}{of_all} here: {reason}")


def _require_targets(state: GameState, targets: Sequence[int] | None) -> None:
    if targets is None:
        return
    if len(targets) != len(state.player_units):
        raise InvalidValueError("targets", "should hold the index of an enemy unit for each player unit")
    for place, target in enumerate(targets):
        require_between(f"targets[{place}]", target, 0, len(state.enemy_units) - 1)
