"""The path finder that proves how good its plan is."""

import time

from throttling_sequencer.domain.navigation import (
    Budget,
    Objective,
    PlanningProblem,
    Progress,
    ThrottlePlan,
    keep_going,
)
from throttling_sequencer.domain.physics import score_parts
from throttling_sequencer.infrastructure.optimal_search import (
    BEST,
    BEST_LENGTH,
    COLUMNS,
    IS_COMPILED,
    SCORE_SLOTS,
    STATE_SLOTS,
    Coins,
    Model,
    Search,
    advance,
    floats,
    integers,
    needs_room,
    prepare,
    proven,
)

# What sums of floats may be wrong by, as a share of what is summed.
_ROUNDING = 1e-14

# Steps of the search between two looks at the clock: some milliseconds.
_STEPS = 4096 if IS_COMPILED else 64


class OptimalPathFinder:
    """Exact: its plan scores within half a thousandth of the best, and comes with a bound that proves it.

    Where the budget ends earlier, the plan is the best one found, and the bound as far as it was proven.
    """

    def find_path(self, problem: PlanningProblem, budget: Budget, progress: Progress = keep_going) -> ThrottlePlan:
        """Return the best plan found within the budget, and the bound that no plan can score below."""
        deadline = time.monotonic() + budget.timeout_ms / 1000
        coins, loose = _coins(problem.objective)
        model = _model(problem)
        search = _search(problem.objective.max_sequence_length)
        prepare(model, search)
        while not advance(model, coins, loose, search, _STEPS) or needs_room(model, search):
            if time.monotonic() >= deadline or not progress(0, search.scores[BEST], _throttles(search)):
                break
            if needs_room(model, search):
                search = _with_more_room(search)
        throttles = _throttles(search)
        parts = score_parts(problem, throttles)
        bound = min(parts.total, proven(model, search) - _possible_rounding(problem, model))
        return ThrottlePlan(throttles, parts, lower_bound=max(0.0, float(bound)))


def warm_up() -> None:
    """Compile what is not compiled yet, and load it."""
    for friction in (0.0, 0.01):
        for throttle_range in ((0, 300), (-20, 30)):
            objective = Objective(throttle_range=throttle_range, max_sequence_length=10)
            OptimalPathFinder().find_path(PlanningProblem(70.0, -1.0, 10.0, friction, objective), Budget(1000))


def _model(problem: PlanningProblem) -> Model:
    objective = problem.objective
    low, high = objective.throttle_range
    idle = _idle(objective)
    size = objective.max_sequence_length + 1
    return Model(
        gains=floats(size),
        holds=floats(size),
        gain_sums=floats(size),
        hold_sums=floats(size),
        coast_distances=floats(size),
        coast_speeds=floats(size),
        distance=float(problem.distance),
        speed=float(problem.speed),
        mass=float(problem.mass),
        kept=1.0 - problem.friction,
        fading=problem.friction / (1.0 - problem.friction),
        idle=idle,
        strongest=high,
        weakest=low,
        # Where the throttle cannot be 0, each step costs what a throttle costs.
        step_cost=objective.length_weight + (objective.nonzero_weight if idle else 0.0),
        coin_cost=0.0 if idle else float(objective.nonzero_weight),
        distance_weight=float(objective.distance_weight),
        speed_weight=float(objective.speed_weight),
        length_weight=float(objective.length_weight),
        nonzero_weight=float(objective.nonzero_weight),
        threshold=float(objective.speed_threshold),
        longest=objective.max_sequence_length,
    )


def _coins(objective: Objective) -> tuple[Coins, Coins]:
    """Return the values of coins, which are not idle as far as a range can say so, and of those that may be idle.

    Of the latter nobody knows how many are not; each unit of throttle takes its share of a coin at least.
    """
    low, high = objective.throttle_range
    idle = _idle(objective)
    low, high = low - idle, high - idle
    unit_cost = 0.0 if idle else objective.nonzero_weight / max(-low, high, 1)
    loose = Coins(low, high, unit_cost)
    if low == 0:
        return Coins(min(1, high), high, 0.0), loose
    return Coins(low, -1 if high == 0 else high, 0.0), loose


def _idle(objective: Objective) -> int:
    """Return the throttle that is nearest to none."""
    low, high = objective.throttle_range
    return min(max(0, low), high)


def _search(longest: int) -> Search:
    depth, room = longest + 2, 4 * longest + 64
    return Search(
        state=integers(STATE_SLOTS),
        scores=floats(SCORE_SLOTS),
        places=integers(depth),
        coins=integers(depth),
        first_places=integers(depth),
        first_coins=integers(depth),
        strides=integers(depth),
        phases=integers(depth),
        totals=integers(depth),
        missing=floats(depth),
        speeds=floats(depth),
        keys=floats(room),
        bounds=floats(room),
        cases=integers(room * COLUMNS),
        trial=integers(longest),
        best=integers(longest),
    )


def _with_more_room(search: Search) -> Search:
    room = 2 * len(search.bounds)
    more = search._replace(keys=floats(room), bounds=floats(room), cases=integers(room * COLUMNS))
    more.keys[: len(search.keys)] = search.keys
    more.bounds[: len(search.bounds)] = search.bounds
    more.cases[: len(search.cases)] = search.cases
    return more


def _throttles(search: Search) -> tuple[int, ...]:
    return tuple(map(int, search.best[: search.state[BEST_LENGTH]]))


def _possible_rounding(problem: PlanningProblem, model: Model) -> float:
    """Return by how much the linear model and the simulation may differ in what they make of one plan."""
    longest, strongest = model.longest, max(map(abs, problem.objective.throttle_range))
    distance = problem.distance + abs(model.coast_distances[longest]) + strongest * model.gain_sums[longest]
    speed = abs(problem.speed) + strongest * model.hold_sums[longest] + model.threshold
    return _ROUNDING * (model.distance_weight * distance + model.speed_weight * speed)
