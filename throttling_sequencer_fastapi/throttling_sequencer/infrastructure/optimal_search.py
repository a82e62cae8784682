"""The search behind `OptimalPathFinder`, in the part of Python that numba compiles; without numba it is plain Python.

A throttle's place is the number of steps from it to the end, its own included. For a plan of a given length, distance
and final speed are linear in the throttles: one unit of throttle adds `gains[place]` to the distance and
`holds[place]` to the final speed, and throttles of the total U that add the distance x leave the final speed
`coasting speed + U/mass - x · friction/(1 - friction)`.

A throttle that is not the idle one is called a coin. A case is a length, a number of coins and their total. The search
takes case after case, the most promising first, and decides coin after coin, the one nearest to the end first: late
coins set the final speed coarsely, early ones are nearly alike and only fill in what is left, so that the bound is
tight soon.

The bound: wherever coins of a known number and total may lie, the distance that they add is between two chains: with as
many as possible at their highest value in the first places and the others at their lowest in the last places, and the
other way round. The best distance in between is known at once, and what it costs is convex in the value of the next
coin and in the total: where it has passed the limit, so have all values beyond.

The score jumps where the final speed becomes negative. Where both is possible, plans that end forward and plans that
end backward are searched apart, each side being convex.

It is one module, for numba keeps what it compiled until the file of a function changes, whatever else that calls.
"""

import math
from collections.abc import Callable, MutableSequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
Floats: TypeAlias = MutableSequence[float]
Integers: TypeAlias = MutableSequence[int]

try:
    import numba
    import numpy as np
except ImportError:
    IS_COMPILED = False
else:
    IS_COMPILED = True

if TYPE_CHECKING or not IS_COMPILED:

    def compiled(function: FunctionT) -> FunctionT:
        """Leave the function as it is."""
        return function

    def floats(length: int) -> Floats:
        """Return so many zeros."""
        return [0.0] * length

    def integers(length: int) -> Integers:
        """Return so many zeros."""
        return [0] * length

else:

    def compiled(function: FunctionT) -> FunctionT:
        """Have the function compiled when it is first called, and what comes of it kept beside this file."""
        try:
            return numba.njit(cache=True, error_model="numpy")(function)
        except RuntimeError:
            # Neither beside this file nor in the user's folders can anything be written.
            return numba.njit(error_model="numpy")(function)

    def floats(length: int) -> Floats:
        """Return so many zeros."""
        return np.zeros(length)

    def integers(length: int) -> Integers:
        """Return so many zeros."""
        return np.zeros(length, np.int64)


# A final speed that is negative by rounding alone counts as none while searching; what is kept is simulated.
_ROUNDING = 1e-9

# From here on floats have no fractions.
_WHOLE = 2.0**52

# Which final speeds a search is about: all that are possible, none of which is negative; those that are not; those
# that are.
_ANY, _FORWARD, _BACKWARD = 0, 1, -1

# How much of a case is known.
_LENGTH_ONLY, _WITH_TOTAL = 0, 1

# What comes next for a coin: find its first place; try its next place; try its next lower value, or higher one.
_ENTER, _PLACE, _LOWER, _HIGHER = 0, 1, 2, 3

# Slots of `Search.state`; the columns of the heap come first.
_LENGTH, _COUNT, _TOTAL, _KIND, _SIDE, _WAY, _TURN = 0, 1, 2, 3, 4, 5, 6
COLUMNS = 7
_DEPTH, _BURST, _BRAKE, _OPENED, _OPEN, _SPENT, _TURN_END, BEST_LENGTH = 7, 8, 9, 10, 11, 12, 13, 14
STATE_SLOTS = 15
# Slots of `Search.scores`.
BEST, _PRUNED, _CASE_BOUND, _TOLERATED = 0, 1, 2, 3
SCORE_SLOTS = 4

# Two coins are completed at once.
_A_PAIR = 2

# A plan that scores better by less is not searched for: very little at first, and more from so many steps on.
_TOLERANCE, _PATIENT_TOLERANCE, _PATIENT_AFTER = 1e-5, 4e-4, 4096

# So often a case is searched for plans with a burst first, for so many steps each time.
_BURSTS, _BURST_TURN = 2, 16_384

# Steps of the search that a case gets before the next most promising one has its turn; doubled each time.
_FIRST_TURN = 4096


class Model(NamedTuple):
    """One problem. Sequences are indexed by place or by length; index 0 is nothing."""

    gains: Floats
    holds: Floats
    gain_sums: Floats
    hold_sums: Floats
    coast_distances: Floats
    coast_speeds: Floats
    distance: float
    speed: float
    mass: float
    kept: float
    fading: float
    idle: int
    strongest: int
    weakest: int
    step_cost: float
    coin_cost: float
    distance_weight: float
    speed_weight: float
    length_weight: float
    nonzero_weight: float
    threshold: float
    longest: int


class Coins(NamedTuple):
    """The values that each coin may have, and what a unit of throttle costs where coins are not counted."""

    low: int
    high: int
    unit_cost: float


class Rest(NamedTuple):
    """What is left to do for this number of coins of this total, at places above `bottom` and up to `top`.

    That is to cover `missing`, from `speed` on, which is the final speed that there is without them, and to end on
    this side.
    """

    missing: float
    speed: float
    bottom: int
    top: int
    number: int
    total: int
    side: int


class Case(NamedTuple):
    """A part of the problem: the plans of this length, and where `kind` says so with so many coins, of this total.

    `way` is how far the total is from the most promising one; `turn` is how often the search of this one was begun.
    """

    length: int
    number: int
    total: int
    kind: int
    side: int
    way: int
    turn: int


class Search(NamedTuple):
    """What a search knows; all of it is changed in place, so that it can be interrupted and taken up again."""

    state: Integers
    scores: Floats
    # The coins that are decided, by depth; from which places and values on, in which direction; what was left to do.
    places: Integers
    coins: Integers
    first_places: Integers
    first_coins: Integers
    strides: Integers
    phases: Integers
    totals: Integers
    missing: Floats
    speeds: Floats
    # The open cases: a binary heap by key, and its columns one after the other.
    keys: Floats
    bounds: Floats
    cases: Integers
    # Throttles, first step first: of the plan that is tried, and of the best one.
    trial: Integers
    best: Integers


@compiled
def excess(speed: float, threshold: float) -> float:
    """Return how far a final speed is from the threshold, 0 where it is between 0 and the threshold."""
    if speed < -_ROUNDING:
        return threshold - speed
    return max(0.0, speed - threshold)


@compiled
def reach(model: Model, coins: Coins, rest: Rest) -> tuple[float, float]:
    """Return the least and the greatest distance that the coins can add, were only their total whole."""
    low, high, count, bottom, top = coins.low, coins.high, rest.number, rest.bottom, rest.top
    sums, gains = model.gain_sums, model.gains
    full, part = count, 0.0
    if count > 0 and high > low:
        filled = (rest.total - count * low) / (high - low)
        full = min(int(filled), count - 1)
        part = filled - full
    others = count - full
    if low > 0:
        # All add: at one end of the places, the highest outermost.
        greatest = high * (sums[top] - sums[top - full]) + low * (sums[top - full] - sums[top - count])
        least = high * (sums[bottom + full] - sums[bottom]) + low * (sums[bottom + count] - sums[bottom + full])
        greatest_place, least_place = top - full, bottom + full + 1
    elif high < 0:
        greatest = low * (sums[bottom + others] - sums[bottom]) + high * (sums[bottom + count] - sums[bottom + others])
        least = low * (sums[top] - sums[top - others]) + high * (sums[top - others] - sums[top - count])
        greatest_place, least_place = bottom + others, top - others + 1
    else:
        greatest = high * (sums[top] - sums[top - full]) + low * (sums[bottom + others] - sums[bottom])
        least = high * (sums[bottom + full] - sums[bottom]) + low * (sums[top] - sums[top - others])
        if part > 0.0:
            greatest += part * (high * gains[top - full] - low * gains[bottom + others])
            least += part * (high * gains[bottom + full + 1] - low * gains[top - others + 1])
        return least, max(least, greatest)
    if part > 0.0:
        greatest += part * (high - low) * gains[greatest_place]
        least += part * (high - low) * gains[least_place]
    return least, max(least, greatest)


@compiled
def bound(model: Model, coins: Coins, rest: Rest) -> float:
    """Return what distance and final speed cost at least; infinite where no plan ends on this side."""
    least, greatest = reach(model, coins, rest)
    pushed = rest.speed + rest.total / model.mass
    units_cost = coins.unit_cost * abs(rest.total)
    if model.fading == 0.0:
        if (rest.side == _FORWARD and pushed < -_ROUNDING) or (rest.side == _BACKWARD and pushed >= -_ROUNDING):
            return math.inf
        missed = max(rest.missing - greatest, least - rest.missing)
        # Every distance is a whole number of 1/mass, as far as floats can tell.
        units = rest.missing * model.mass
        if abs(units) < _WHOLE:
            missed = max(missed, abs(units - math.floor(units + 0.5)) / model.mass)
        return units_cost + model.distance_weight * missed + model.speed_weight * excess(pushed, model.threshold)
    stopping = (pushed + _ROUNDING) / model.fading
    if (rest.side == _FORWARD and stopping < least) or (rest.side == _BACKWARD and stopping >= greatest):
        return math.inf
    if rest.side == _FORWARD:
        greatest = min(greatest, stopping)
    elif rest.side == _BACKWARD:
        least = max(least, stopping)
    cost = _cost_at(model, min(max(rest.missing, least), greatest), pushed, rest)
    # Where it is the speed that counts most, the best distance is another one.
    slowest = least if rest.side == _BACKWARD else min(max((pushed - model.threshold) / model.fading, least), greatest)
    return units_cost + min(cost, _cost_at(model, slowest, pushed, rest))


@compiled
def _cost_at(model: Model, gained: float, pushed: float, rest: Rest) -> float:
    speed = pushed - gained * model.fading
    beyond = model.threshold - speed if rest.side == _BACKWARD else max(0.0, speed - model.threshold)
    return model.distance_weight * abs(rest.missing - gained) + model.speed_weight * beyond


@compiled
def _with_total(rest: Rest, total: int) -> Rest:
    return Rest(rest.missing, rest.speed, rest.bottom, rest.top, rest.number, total, rest.side)


@compiled
def _with_side(rest: Rest, side: int) -> Rest:
    return Rest(rest.missing, rest.speed, rest.bottom, rest.top, rest.number, rest.total, side)


@compiled
def cheapest_total(model: Model, coins: Coins, rest: Rest) -> tuple[float, int]:
    """Return the least bound of any total, and that total; the bound is convex in it. `rest.total` is a guess."""
    first, last = rest.number * coins.low, rest.number * coins.high
    if rest.side != _ANY:
        # Each unit of throttle adds final speed.
        forward = _first_forward(model, coins, rest)
        first, last = (forward, last) if rest.side == _FORWARD else (first, forward - 1)
        if first > last:
            return math.inf, first
    here = min(max(rest.total, first), last)
    cost = bound(model, coins, _with_total(rest, here))
    step = 1
    if here == last or bound(model, coins, _with_total(rest, here + 1)) >= cost:
        step = -1
        if here == first or bound(model, coins, _with_total(rest, here - 1)) >= cost:
            return cost, here
    behind, ahead = here, here
    while True:
        behind, here = here, ahead
        ahead = min(max(here + step, first), last)
        step *= 2
        if ahead == here:
            break
        next_cost = bound(model, coins, _with_total(rest, ahead))
        if next_cost >= cost:
            break
        cost = next_cost
    return _bisected(model, coins, rest, min(behind, ahead), max(behind, ahead))


@compiled
def _bisected(model: Model, coins: Coins, rest: Rest, low: int, high: int) -> tuple[float, int]:
    while low < high:
        middle = (low + high) >> 1
        here = bound(model, coins, _with_total(rest, middle))
        if here <= bound(model, coins, _with_total(rest, middle + 1)):
            high = middle
        else:
            low = middle + 1
    return bound(model, coins, _with_total(rest, low)), low


@compiled
def _first_forward(model: Model, coins: Coins, rest: Rest) -> int:
    """Return the first total that can end forward, or the first that cannot end backward."""
    low, high = rest.number * coins.low, rest.number * coins.high + 1
    while low < high:
        middle = (low + high) >> 1
        if math.isinf(bound(model, coins, _with_total(rest, middle))) == (rest.side == _BACKWARD):
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def prepare(model: Model, search: Search) -> None:
    """Fill the model's tables, and begin with the best plan that idles."""
    _tabulate(model)
    search.scores[BEST], search.scores[_PRUNED], search.scores[_TOLERATED] = math.inf, math.inf, _TOLERANCE
    search.state[_DEPTH] = -1
    least = math.inf
    for length in range(1, model.longest + 1):
        rest = _whole(model, length, 0, _ANY)
        cost = model.distance_weight * abs(rest.missing) + model.speed_weight * excess(rest.speed, model.threshold)
        if cost + model.step_cost * length < least:
            least, search.state[BEST_LENGTH] = cost + model.step_cost * length, length
    accept(model, search, search.state[BEST_LENGTH], search.state[_COUNT])


@compiled
def open_length(model: Model, loose: Coins, search: Search) -> None:
    """Open the next length, or all that are left if they cannot be worth a search.

    `loose` coins may be idle, so that there may be any number of them.
    """
    state = search.state
    state[_SPENT] += 1
    state[_OPENED] += 1
    length = state[_OPENED]
    if is_pruned(search, model.step_cost * length):
        state[_OPENED] = model.longest
        return
    rest = _with_total(_whole(model, length, length, _ANY), state[_TOTAL])
    if rest.speed + min(0.0, loose.low * model.hold_sums[length]) >= 0.0:
        _open_side(model, loose, search, rest)
    else:
        _open_side(model, loose, search, _with_side(rest, _BACKWARD))
        _open_side(model, loose, search, _with_side(rest, _FORWARD))


@compiled
def _open_side(model: Model, loose: Coins, search: Search, rest: Rest) -> None:
    cost, total = cheapest_total(model, loose, rest)
    # A guess for the next length.
    search.state[_TOTAL] = total
    cost += model.step_cost * rest.top
    if not is_pruned(search, cost):
        push(search, Case(rest.top, 0, 0, _LENGTH_ONLY, rest.side, 0, 0), cost, 0.0)


@compiled
def _tabulate(model: Model) -> None:
    power, total = 1.0, 0.0
    model.coast_speeds[0] = model.speed
    for place in range(1, model.longest + 1):
        power *= model.kept
        total += power
        model.gains[place], model.holds[place] = total / model.mass, power / model.mass
        model.gain_sums[place] = model.gain_sums[place - 1] + model.gains[place]
        model.hold_sums[place] = model.hold_sums[place - 1] + model.holds[place]
        model.coast_distances[place], model.coast_speeds[place] = model.speed * total, model.speed * power


@compiled
def _whole(model: Model, length: int, count: int, side: int) -> Rest:
    missing = model.distance - model.coast_distances[length] - model.idle * model.gain_sums[length]
    speed = model.coast_speeds[length] + model.idle * model.hold_sums[length]
    return Rest(missing, speed, 0, length, count, 0, side)


@compiled
def advance(model: Model, coins: Coins, loose: Coins, search: Search, steps: int) -> bool:
    """Search for about so many steps; tell whether the search is over, or the heap needs room.

    Over means that nothing open can be better than the best plan by more than the tolerance.
    """
    state = search.state
    end = state[_SPENT] + steps
    while state[_SPENT] < end:
        if state[_OPENED] < model.longest:
            open_length(model, loose, search)
        elif state[_DEPTH] >= 0:
            decide_coins(model, coins, search, end)
        elif state[_OPEN] == 0 or needs_room(model, search):
            return True
        else:
            pop(search)
            state[_BURST], state[_BRAKE] = 0, 0
            if not is_pruned(search, search.scores[_CASE_BOUND]):
                take_up(model, coins, loose, search)
    return False


@compiled
def needs_room(model: Model, search: Search) -> bool:
    """Tell whether the heap might be too small for what comes next."""
    return search.state[_OPEN] + model.longest + 2 > len(search.keys)


@compiled
def take_up(model: Model, coins: Coins, loose: Coins, search: Search) -> None:
    """Open what the case consists of that was taken from the heap, or begin to search it."""
    state = search.state
    state[_SPENT] += 1
    rest = _whole(model, state[_LENGTH], state[_COUNT], state[_SIDE])
    if state[_KIND] == _LENGTH_ONLY:
        open_counts(model, coins, search, rest, 0 if loose.low == loose.high else rest.top)
    else:
        begin(model, coins, search, _with_total(rest, state[_TOTAL]))


@compiled
def open_counts(model: Model, coins: Coins, search: Search, rest: Rest, most: int) -> None:
    """For each number of coins open the case of the total that the bound likes best, if it may be worth a search."""
    total = 0
    for count in range(most + 1):
        search.state[_COUNT] = count
        if is_pruned(search, _fixed(model, search)):
            break
        search.state[_SPENT] += 1
        cost, total = cheapest_total(model, coins, _with_total(_with_count(rest, count), total))
        open_case(model, search, _with_total(_with_count(rest, count), total), cost, 0)


@compiled
def open_case(model: Model, search: Search, rest: Rest, cost: float, way: int) -> None:
    """Open a case that costs at least this for distance and final speed, if it may be worth a search."""
    cost += _fixed(model, search)
    if not is_pruned(search, cost):
        push(
            search,
            Case(rest.top, rest.number, rest.total, _WITH_TOTAL, rest.side, way, 0),
            cost,
            delay(search, cost, abs(way)),
        )


@compiled
def delay(search: Search, cost: float, times: int) -> float:
    """Return by how much a case is to look less promising than its bound, so that others have their turn."""
    return (search.scores[BEST] - cost) * times / (times + 8.0)


@compiled
def begin(model: Model, coins: Coins, search: Search, rest: Rest) -> None:
    """Begin to search the case that was taken up, and open the totals beside its own."""
    state = search.state
    if state[_TURN] == 0:
        way = state[_WAY]
        if way <= 0 and rest.total > rest.number * coins.low:
            less = _with_total(rest, rest.total - 1)
            open_case(model, search, less, bound(model, coins, less), way - 1)
        if way >= 0 and rest.total < rest.number * coins.high:
            more = _with_total(rest, rest.total + 1)
            open_case(model, search, more, bound(model, coins, more), way + 1)
    if rest.number == 0:
        accept(model, search, rest.top, rest.number)
    elif rest.number == 1:
        try_last_coin(model, search, rest)
    elif coins.high > 0 and rest.number > _A_PAIR + state[_TURN] and state[_TURN] < _BURSTS:
        begin_with_burst(model, coins, search, rest)
    else:
        state[_TURN_END] = state[_SPENT] + (_FIRST_TURN << state[_TURN])
        descend(search, rest)


@compiled
def begin_with_burst(model: Model, coins: Coins, search: Search, rest: Rest) -> None:
    """Search only the plans that begin with the highest values and end with the lowest ones, but for two coins.

    In the next turn it is all but three. Most good plans are like this. The case stays open for the others.
    """
    state = search.state
    put_back(search)
    free = _A_PAIR + state[_TURN]
    burst, brake = rest.number - free, 0
    if coins.low < 0:
        full = (rest.total - rest.number * coins.low) // (coins.high - coins.low)
        burst = max(0, min(full, rest.number - 1) - free // 2)
        brake = max(0, rest.number - free - burst)
    top, sums, holds = rest.top - burst, model.gain_sums, model.hold_sums
    missing = rest.missing - coins.high * (sums[rest.top] - sums[top]) - coins.low * sums[brake]
    speed = rest.speed + coins.high * (holds[rest.top] - holds[top]) + coins.low * holds[brake]
    number = rest.number - burst - brake
    total = rest.total - burst * coins.high - brake * coins.low
    if coins.low * number <= total <= coins.high * number:
        state[_BURST], state[_BRAKE], state[_TURN_END] = burst, brake, state[_SPENT] + _BURST_TURN
        descend(search, Rest(missing, speed, brake, top, number, total, rest.side))


@compiled
def _with_count(rest: Rest, count: int) -> Rest:
    return Rest(rest.missing, rest.speed, rest.bottom, rest.top, count, rest.total, rest.side)


@compiled
def _fixed(model: Model, search: Search) -> float:
    return model.step_cost * search.state[_LENGTH] + model.coin_cost * search.state[_COUNT]


@compiled
def is_pruned(search: Search, cost: float) -> bool:
    """Tell whether plans that cost at least this can be left out, and remember that they were."""
    if cost < search.scores[BEST] - search.scores[_TOLERATED]:
        return False
    search.scores[_PRUNED] = min(search.scores[_PRUNED], cost)
    return True


@compiled
def decide_coins(model: Model, coins: Coins, search: Search, end: int) -> None:
    """Search the case that was taken up, depth first, until that is done, its turn is over, or `end` is reached."""
    state = search.state
    while state[_DEPTH] >= 0 and state[_SPENT] < end:
        if state[_SPENT] >= state[_TURN_END] and is_turn_over(search):
            state[_DEPTH] = -1
            return
        state[_SPENT] += 1
        depth = state[_DEPTH]
        bottom = search.places[depth - 1] if depth else state[_BRAKE]
        missing, speed, total = search.missing[depth], search.speeds[depth], search.totals[depth]
        top, number = state[_LENGTH] - state[_BURST], _undecided(search) - depth
        rest = Rest(missing, speed, bottom, top, number, total, state[_SIDE])
        phase = search.phases[depth]
        if phase == _ENTER:
            find_first_place(model, coins, search, rest)
        elif phase == _PLACE:
            next_place(model, coins, search, rest)
        else:
            next_value(model, coins, search, rest)


@compiled
def descend(search: Search, rest: Rest) -> None:
    """Go on with the next coin."""
    depth = _undecided(search) - rest.number
    search.missing[depth], search.speeds[depth], search.totals[depth] = rest.missing, rest.speed, rest.total
    search.phases[depth] = _ENTER
    search.state[_DEPTH] = depth


@compiled
def _undecided(search: Search) -> int:
    """Return how many coins are to be decided, but for burst and brake."""
    return search.state[_COUNT] - search.state[_BURST] - search.state[_BRAKE]


@compiled
def is_turn_over(search: Search) -> bool:
    """Give the case another turn at once, unless another one is more promising, or nothing is to be gained any more."""
    state, case_bound = search.state, search.scores[_CASE_BOUND]
    be_patient(search)
    if state[_BURST] + state[_BRAKE] > 0 or is_pruned(search, case_bound):
        return True
    if state[_OPEN] > 0 and search.keys[0] < case_bound + delay(search, case_bound, state[_TURN] + 1):
        put_back(search)
        return True
    state[_TURN] += 1
    state[_TURN_END] += _FIRST_TURN << state[_TURN]
    return False


@compiled
def be_patient(search: Search) -> None:
    """After some time, leave small gains alone."""
    if search.state[_SPENT] >= _PATIENT_AFTER:
        search.scores[_TOLERATED] = _PATIENT_TOLERANCE


@compiled
def put_back(search: Search) -> None:
    """Let others have their turn, as if the bound had been less promising: more so each time."""
    state = search.state
    case_bound, turn = search.scores[_CASE_BOUND], state[_TURN] + 1
    case = Case(state[_LENGTH], state[_COUNT], state[_TOTAL], _WITH_TOTAL, state[_SIDE], state[_WAY], turn)
    push(search, case, case_bound, delay(search, case_bound, turn))


@compiled
def find_first_place(model: Model, coins: Coins, search: Search, rest: Rest) -> None:
    """Find the highest place for the coin nearest to the end with which the bound does not grow."""
    depth = search.state[_DEPTH]
    low, high = rest.bottom + 1, rest.top - rest.number + 1
    limit = bound(model, coins, rest) + search.scores[_TOLERATED]
    while low < high:
        middle = (low + high + 1) >> 1
        if bound(model, coins, _above(rest, middle)) < limit:
            low = middle
        else:
            high = middle - 1
    search.first_places[depth], search.strides[depth] = low, -1
    search.places[depth] = low + 1
    search.phases[depth] = _PLACE


@compiled
def _above(rest: Rest, place: int) -> Rest:
    return Rest(rest.missing, rest.speed, place - 1, rest.top, rest.number, rest.total, rest.side)


@compiled
def _after(model: Model, rest: Rest, place: int, coin: int) -> Rest:
    missing = rest.missing - model.gains[place] * coin
    speed = rest.speed + model.holds[place] * coin
    return Rest(missing, speed, place, rest.top, rest.number - 1, rest.total - coin, rest.side)


@compiled
def _values(coins: Coins, rest: Rest) -> tuple[int, int]:
    """Return the range of the next coin that the others can complete to the total."""
    others = rest.number - 1
    return max(coins.low, rest.total - others * coins.high), min(coins.high, rest.total - others * coins.low)


@compiled
def next_place(model: Model, coins: Coins, search: Search, rest: Rest) -> None:
    """Go on to the next place, from the first one down and then up, and find the value that the bound likes best."""
    depth, fixed = search.state[_DEPTH], _fixed(model, search)
    search.places[depth] += search.strides[depth]
    if search.strides[depth] < 0 and search.places[depth] <= rest.bottom:
        search.strides[depth], search.places[depth] = 1, search.first_places[depth] + 1
    place = search.places[depth]
    is_over = place > rest.top - rest.number + 1
    if not is_over and search.strides[depth] > 0:
        # The bound of all that is above only grows from here.
        is_over = is_pruned(search, bound(model, coins, _above(rest, place)) + fixed)
    if is_over:
        search.state[_DEPTH] -= 1
        return
    cost, coin = best_value(model, coins, search, rest, place)
    if is_pruned(search, cost + fixed):
        return
    low, high = _values(coins, rest)
    if rest.number == _A_PAIR and rest.top - place < high - low:
        try_last_two_coins(model, coins, search, rest, place)
    else:
        search.first_coins[depth] = coin
        search.coins[depth] = coin + 1
        search.phases[depth] = _LOWER


@compiled
def best_value(model: Model, coins: Coins, search: Search, rest: Rest, place: int) -> tuple[float, int]:
    """Return the least bound with the next coin at this place, a convex function of its value, and that."""
    low, high = _values(coins, rest)
    # The others are to be as high as possible, for they are earlier.
    coin = low
    cost = bound(model, coins, _after(model, rest, place, coin))
    if math.isinf(cost) and rest.side == _FORWARD:
        # Who cannot end forward with this value can with more, or not at all.
        coin = high
        cost = bound(model, coins, _after(model, rest, place, coin))
    stride = 0 if math.isinf(cost) else 1
    while stride > 0 and cost > 0.0:
        has_moved = False
        for step in (-stride, stride):
            if low <= coin + step <= high and not has_moved:
                search.state[_SPENT] += 1
                other_cost = bound(model, coins, _after(model, rest, place, coin + step))
                if other_cost < cost:
                    cost, coin, has_moved = other_cost, coin + step, True
        stride = stride * 2 if has_moved else stride // 2
    return cost, coin


@compiled
def next_value(model: Model, coins: Coins, search: Search, rest: Rest) -> None:
    """Try the next value of the coin: from the best one down, and then up, as far as the bound allows."""
    depth = search.state[_DEPTH]
    is_going_down = search.phases[depth] == _LOWER
    coin = search.coins[depth] + (-1 if is_going_down else 1)
    search.coins[depth] = coin
    low, high = _values(coins, rest)
    after = _after(model, rest, search.places[depth], coin)
    is_over = not low <= coin <= high
    if is_over or is_pruned(search, bound(model, coins, after) + _fixed(model, search)):
        if is_going_down:
            search.phases[depth], search.coins[depth] = _HIGHER, search.first_coins[depth]
        else:
            search.phases[depth] = _PLACE
    elif coin == 0:
        return
    elif after.number == 1:
        try_last_coin(model, search, after)
    else:
        descend(search, after)


@compiled
def try_last_two_coins(model: Model, coins: Coins, search: Search, rest: Rest, place: int) -> None:
    """Complete the coins that are decided by the last two, the first of them at this place, where all fits best."""
    low, high = _values(coins, rest)
    depth, gains = search.state[_DEPTH], model.gains
    search.state[_SPENT] += (rest.top - place) // 4
    kinks = 1 if model.speed_weight * model.fading <= model.distance_weight else 3
    pushed = rest.speed + rest.total / model.mass
    limit = search.scores[BEST] - _fixed(model, search)
    for last_place in range(place + 1, rest.top + 1):
        # All at the last place would cover so much; each unit at the other place changes it by this.
        covered, change = gains[last_place] * rest.total, gains[place] - gains[last_place]
        if change == 0.0:
            continue
        for kink in range(kinks):
            wanted = rest.missing
            if kink > 0:
                wanted = (pushed - (model.threshold if kink == 1 else 0.0)) / model.fading
            fitting = min(max((wanted - covered) / change, low), high)
            # One more on each side, for neither coin may be idle.
            for coin in range(math.floor(fitting) - 1, math.floor(fitting) + 3):
                gained = covered + change * coin
                cost = model.distance_weight * abs(rest.missing - gained)
                if cost >= limit or not low <= coin <= high or coin * (rest.total - coin) == 0:
                    continue
                cost += model.speed_weight * excess(pushed - gained * model.fading, model.threshold)
                if cost < limit:
                    search.places[depth], search.coins[depth] = place, coin
                    search.places[depth + 1], search.coins[depth + 1] = last_place, rest.total - coin
                    accept(model, search, search.state[_LENGTH], depth + 2)
                    limit = search.scores[BEST] - _fixed(model, search)


@compiled
def try_last_coin(model: Model, search: Search, rest: Rest) -> None:
    """Complete the coins that are decided by the last one, whose value is known, at its best place."""
    search.state[_SPENT] += 1
    if rest.total == 0:
        return
    pushed = rest.speed + rest.total / model.mass
    limit, best_place = search.scores[BEST] - _fixed(model, search), 0
    for kink in range(1 if model.fading == 0.0 else 3):
        wanted = rest.missing
        if kink > 0:
            wanted = (pushed - (model.threshold if kink == 1 else 0.0)) / model.fading
        place = _place_below(model, rest, wanted / rest.total)
        for near in (place, place + 1):
            if rest.bottom < near <= rest.top:
                cost = model.distance_weight * abs(rest.missing - model.gains[near] * rest.total)
                cost += model.speed_weight * excess(rest.speed + model.holds[near] * rest.total, model.threshold)
                if cost < limit:
                    limit, best_place = cost, near
    if best_place > 0:
        depth = _undecided(search) - 1
        search.places[depth], search.coins[depth] = best_place, rest.total
        accept(model, search, search.state[_LENGTH], depth + 1)


@compiled
def _place_below(model: Model, rest: Rest, gain: float) -> int:
    """Return the last place whose gain is at most this, or the one below all that are free."""
    low, high = rest.bottom, rest.top
    while low < high:
        middle = (low + high + 1) >> 1
        if model.gains[middle] <= gain:
            low = middle
        else:
            high = middle - 1
    return low


@compiled
def accept(model: Model, search: Search, length: int, count: int) -> None:
    """Simulate the plan of so many decided coins, burst and brake, and keep it if it is better than the best one."""
    trial = search.trial
    for step in range(length):
        trial[step] = model.idle
    for step in range(search.state[_BURST]):
        trial[step] = model.strongest
    for step in range(length - search.state[_BRAKE], length):
        trial[step] = model.weakest
    for coin in range(count):
        trial[length - search.places[coin]] += search.coins[coin]
    score = simulated(model, trial, length)
    if score < search.scores[BEST]:
        search.scores[BEST] = score
        search.state[BEST_LENGTH] = length
        for step in range(length):
            search.best[step] = trial[step]


@compiled
def simulated(model: Model, throttles: Integers, length: int) -> float:
    """Return the score of the first steps of these throttles, one step after the other."""
    covered, speed, busy = 0.0, model.speed, 0
    for step in range(length):
        speed = (speed + throttles[step] / model.mass) * model.kept
        covered += speed
        busy += throttles[step] != 0
    beyond = 0.0 if 0.0 <= speed <= model.threshold else abs(speed - model.threshold)
    score = model.distance_weight * abs(model.distance - covered) + model.speed_weight * beyond
    return score + model.length_weight * length + model.nonzero_weight * busy


@compiled
def proven(model: Model, search: Search) -> float:
    """Return the bound that no plan can score below, but for rounding."""
    least = min(search.scores[BEST], search.scores[_PRUNED])
    if search.state[_OPENED] < model.longest:
        least = min(least, model.step_cost * (search.state[_OPENED] + 1))
    for case in range(search.state[_OPEN]):
        least = min(least, search.bounds[case])
    if search.state[_DEPTH] >= 0:
        least = min(least, search.scores[_CASE_BOUND])
    return least


@compiled
def push(search: Search, case: Case, case_bound: float, wait: float) -> None:
    """Add a case to the heap."""
    key, hole = case_bound + wait, search.state[_OPEN]
    search.state[_OPEN] += 1
    while hole > 0 and search.keys[(hole - 1) >> 1] > key:
        _move(search, (hole - 1) >> 1, hole)
        hole = (hole - 1) >> 1
    search.keys[hole], search.bounds[hole] = key, case_bound
    for column, value in enumerate(case):
        search.cases[hole * COLUMNS + column] = value


@compiled
def pop(search: Search) -> None:
    """Take the most promising case from the heap and make it the one that is looked at."""
    be_patient(search)
    for column in range(COLUMNS):
        search.state[column] = search.cases[column]
    search.scores[_CASE_BOUND] = search.bounds[0]
    search.state[_OPEN] -= 1
    last, hole = search.state[_OPEN], 0
    while True:
        child = 2 * hole + 1
        if child + 1 < last and search.keys[child + 1] < search.keys[child]:
            child += 1
        if child >= last or search.keys[child] >= search.keys[last]:
            break
        _move(search, child, hole)
        hole = child
    _move(search, last, hole)


@compiled
def _move(search: Search, source: int, target: int) -> None:
    search.keys[target], search.bounds[target] = search.keys[source], search.bounds[source]
    for column in range(COLUMNS):
        search.cases[target * COLUMNS + column] = search.cases[source * COLUMNS + column]
