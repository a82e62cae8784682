"""Plans built rather than searched: as strong a burst as needed, a few corrections, and a coast."""

from collections.abc import Iterator

from throttling_sequencer.domain.genetic_path.linear_model import LinearModel


def constructive_candidates(model: LinearModel) -> Iterator[list[int]]:
    """Yield the candidate of every allowed length, the longest first and then from the shortest up.

    The longest plan has the most steps to coast, so that it is the one to have where time is short.
    """
    longest = model.problem.objective.max_sequence_length
    yield burst_and_coast(model, longest)
    for length in range(1, longest):
        yield burst_and_coast(model, length)


def burst_and_coast(model: LinearModel, length: int) -> list[int]:
    """Spend on each step in turn as much throttle as still fits into the distance.

    Early throttles cover the most distance per final speed, so that the full burst at the start reaches the target
    with the least final speed; each later step can only spend what is left over, in ever finer coins.
    """
    low, high = model.problem.objective.throttle_range
    idle = min(max(0, low), high)
    gains = model.gains(length)
    missing = model.problem.distance - model.coast_distance(length) - idle * sum(gains)
    throttles = [idle] * length
    for step, gain in enumerate(gains):
        if abs(missing) < gains[-1]:
            break
        throttle = min(max(idle + int(missing / gain), low), high)
        missing -= (throttle - idle) * gain
        throttles[step] = throttle
    return throttles
