"""How far plans are from the optimum."""

import math
from collections.abc import Sequence

import numpy as np

from bench.planner.optima import Optimum

# Below this, a gap says nothing any more: a ratio to it would have no end.
SMALLEST_GAP = 1e-4


def gap(score: float, optimum: Optimum) -> float:
    """Return (score - optimum) / (optimum + 0.01), which has a meaning for an optimum of 0 too."""
    return max(0.0, score - optimum.score) / (optimum.score + 0.01)


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that so many percent do not exceed; one of the values, infinity included."""
    return round(float(np.percentile(values, percent, method="higher")), 5)


def summary(values: Sequence[float]) -> dict[str, float | None]:
    """Return the middle one, the one that 5 of 100 exceed, and the worst; None where there was no plan yet."""
    found = {name: percentile(values, percent) for name, percent in (("p50", 50), ("p95", 95), ("max", 100))}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}
