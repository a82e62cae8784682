"""The plans that a search can begin with."""

import math
from collections.abc import Iterator
from itertools import islice

from throttling_sequencer.domain.genetic_path.construction import Construction
from throttling_sequencer.domain.genetic_path.linear_model import LinearModel, Plan
from throttling_sequencer.domain.genetic_path.shapes import Shapes


def constructive_candidates(model: LinearModel) -> Iterator[list[int]]:
    """Yield throttles of plans that are built, of the most promising shape first.

    Each is of a shape that may be better than all candidates before, were it built perfectly. There is one at least,
    and there are no more of them than lengths are allowed.
    """
    return map(model.throttles, islice(_improving(Construction(model, Shapes(model))), model.longest))


def _improving(construction: Construction) -> Iterator[Plan]:
    best = math.inf

    def limit() -> float:
        return best

    for plan in filter(None, construction.plans(limit)):
        best = min(best, plan.score)
        yield plan
