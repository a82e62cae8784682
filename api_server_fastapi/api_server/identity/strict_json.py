"""JSON that means one thing only, whoever reads it."""

import json
from typing import Any, NoReturn


def parse_strictly(text: bytes | str) -> Any:  # noqa: ANN401 - JSON
    """Parse JSON. Raises ValueError where a name is there twice, a number is none, or it is nested without end."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name is there twice")
    return members


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
