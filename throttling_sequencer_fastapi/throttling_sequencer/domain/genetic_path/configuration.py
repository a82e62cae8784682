"""What the genetic search can be told."""

from dataclasses import dataclass

from throttling_sequencer.domain.errors import InvalidValueError
from throttling_sequencer.domain.navigation import Budget, Objective
from throttling_sequencer.domain.rules import require_between


@dataclass(frozen=True, slots=True)
class GeneticConfiguration:
    """The search's settings, and the objective that every path finder shares.

    Each generation keeps the `best_parents` as they are and fills up to `population_size` with their descendants and
    those of `worst_parents` of the others, and with built plans as long as there are promising ones; a descendant
    mutates once more with probability `mutation_rate`. The search ends after `generations` or `timeout_ms`, whichever
    is first.
    """

    population_size: int = 600
    generations: int = 300
    mutation_rate: float = 0.1
    best_parents: int = 20
    worst_parents: int = 10
    speed_threshold: float = 5.0
    throttle_range: tuple[int, int] = (0, 300)
    max_sequence_length: int = 100
    distance_weight: float = 1.0
    speed_weight: float = 0.5
    length_weight: float = 0.01
    nonzero_weight: float = 0.01
    timeout_ms: int = 1000

    def __post_init__(self) -> None:
        require_between("population_size", self.population_size, 2, 100_000)
        require_between("generations", self.generations, 1, 1_000_000)
        require_between("mutation_rate", self.mutation_rate, 0.0, 1.0)
        require_between("best_parents", self.best_parents, 1, 100_000)
        require_between("worst_parents", self.worst_parents, 0, 100_000)
        if self.best_parents + self.worst_parents > self.population_size:
            raise InvalidValueError("population_size", "should be at least best_parents + worst_parents")
        Budget(self.timeout_ms)
        _ = self.objective

    @property
    def objective(self) -> Objective:
        """What a plan is judged by."""
        return Objective(
            self.speed_threshold,
            self.throttle_range,
            self.max_sequence_length,
            self.distance_weight,
            self.speed_weight,
            self.length_weight,
            self.nonzero_weight,
        )
