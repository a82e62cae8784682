"""How figures of several rounds become those of a result."""

import statistics
from collections.abc import Sequence
from typing import Any


def median(values: Sequence[float], digits: int = 2) -> float:
    """Return the middle one, rounded."""
    return round(statistics.median(values), digits)


def percentile(values: Sequence[float], percent: int, digits: int = 2) -> float:
    """Return the value that so many percent do not exceed, rounded."""
    return round(statistics.quantiles(values, n=100)[percent - 1], digits)


def at_least(asked: float, reached: float) -> dict[str, Any]:
    """Name a target beside what was reached."""
    return {"asked": f">= {asked:g}", "reached": reached, "is_reached": reached >= asked}


def at_most(asked: float, reached: float) -> dict[str, Any]:
    """Name a limit beside what was reached."""
    return {"asked": f"<= {asked:g}", "reached": reached, "is_reached": reached <= asked}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios, each of two figures that were taken one right after the other."""
    return median([one / other for one, other in zip(ours, theirs, strict=True)])
