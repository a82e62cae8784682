"""Rules about single values, each raised in one place."""

from throttling_sequencer.domain.errors import InvalidValueError


def require_between(field: str, value: float, low: float, high: float) -> None:
    """Raise InvalidValueError unless `value` is a number of [low, high]."""
    if not low <= value <= high:
        raise InvalidValueError(field, f"should be a number from {_shown(low)} to {_shown(high)}")


def require_below(field: str, value: float, low: float, limit: float) -> None:
    """Raise InvalidValueError unless `value` is a number of [low, limit)."""
    if not low <= value < limit:
        raise InvalidValueError(field, f"should be a number from {_shown(low)} to below {_shown(limit)}")


def _shown(limit: float) -> str:
    return str(int(limit)) if float(limit).is_integer() else str(limit)
