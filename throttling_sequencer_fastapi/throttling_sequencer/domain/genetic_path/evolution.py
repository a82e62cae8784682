"""How new plans come of old ones: operators for sequences of throttles of variable length."""

from collections.abc import Callable, Sequence
from random import Random

from throttling_sequencer.domain.genetic_path.linear_model import LinearModel

_CROSSOVER_SHARE = 0.2
_CORRECTED_SHARE = 0.8
_SMALL_NUDGE_SHARE = 0.7


class Evolution:
    """Crossover and mutation for one problem, from one source of randomness. Plans given are never changed."""

    def __init__(self, model: LinearModel, random: Random) -> None:
        self._model = model
        self._random = random
        self._low, self._high = model.problem.objective.throttle_range
        self._idle = min(max(0, self._low), self._high)
        self._longest = model.problem.objective.max_sequence_length
        self._mutations: tuple[Callable[[list[int]], list[int]], ...] = (
            self._nudge,
            self._shift,
            self._shift,
            self._clear,
            self._resize,
        )

    def random_plan(self) -> list[int]:
        """Make a plan of any length with any throttles."""
        length = self._random.randint(1, self._longest)
        return [self._random.randint(self._low, self._high) for _ in range(length)]

    def child(self, mother: Sequence[int], father: Sequence[int], mutation_rate: float) -> list[int]:
        """Make a descendant: one parent's start and the other's end, or a mutant; mutated further at the rate."""
        if self._random.random() < _CROSSOVER_SHARE:
            child = self._cross(mother, father)
        else:
            child = self._random.choice(self._mutations)(list(mother))
        while self._random.random() < mutation_rate:
            child = self._random.choice(self._mutations)(child)
        return self._correct(child) if self._random.random() < _CORRECTED_SHARE else child

    def _cross(self, mother: Sequence[int], father: Sequence[int]) -> list[int]:
        cut = self._random.randint(0, min(len(mother), len(father)))
        return [*mother[:cut], *father[cut:]]

    def _nudge(self, throttles: list[int]) -> list[int]:
        """Change one step a little, or to anything."""
        step = self._random.randrange(len(throttles))
        if self._random.random() < _SMALL_NUDGE_SHARE:
            throttles[step] = self._allowed(throttles[step] + self._random.choice((-3, -2, -1, 1, 2, 3)))
        else:
            throttles[step] = self._random.randint(self._low, self._high)
        return throttles

    def _shift(self, throttles: list[int]) -> list[int]:
        """Move some throttle from one step to another: a fine change of distance, a small one of the final speed."""
        giver, taker = self._random.randrange(len(throttles)), self._random.randrange(len(throttles))
        amount = self._random.choice((1, 1, 2, 3, 10, 50))
        given = throttles[giver] - self._allowed(throttles[giver] - amount)
        given = self._allowed(throttles[taker] + given) - throttles[taker]
        throttles[giver] -= given
        throttles[taker] += given
        return throttles

    def _clear(self, throttles: list[int]) -> list[int]:
        """Let one of the steps with a throttle idle."""
        busy = [step for step, throttle in enumerate(throttles) if throttle != self._idle]
        if busy:
            throttles[self._random.choice(busy)] = self._idle
        return throttles

    def _resize(self, throttles: list[int]) -> list[int]:
        """Coast a little longer or shorter."""
        change = self._random.choice((-10, -3, -2, -1, 1, 2, 3, 10))
        length = min(max(1, len(throttles) + change), self._longest)
        return throttles[:length] + [self._idle] * (length - len(throttles))

    def _correct(self, throttles: list[int]) -> list[int]:
        """Change one step by what brings the plan nearest to the target."""
        step = self._random.randrange(len(throttles))
        missing = self._model.problem.distance - self._model.covered(throttles)
        gain = self._model.gains(len(throttles))[step]
        if gain > 0.0:
            room = self._high - self._low + 1
            throttles[step] = self._allowed(throttles[step] + round(min(max(missing / gain, -room), room)))
        return throttles

    def _allowed(self, throttle: int) -> int:
        return min(max(throttle, self._low), self._high)
