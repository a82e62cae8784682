"""What a client may say on a socket, whichever of the two protocols it speaks."""

from typing import Any, TypeGuard

# An id comes back with every answer.
_LONGEST_ID = 256


def is_message(frame: Any, start: str, stop: str) -> TypeGuard[Any]:  # noqa: ANN401 - whatever JSON a client sent
    """Whether a frame has the shape of a message; `start` and `stop` are the types that begin and end an operation."""
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        return False
    if not isinstance(frame.get("payload"), dict | None) or not _is_id(frame.get("id", "")):
        return False
    if frame["type"] in (start, stop) and "id" not in frame:
        return False
    return frame["type"] != start or _is_operation(frame.get("payload"))


def _is_id(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_ID


def _is_operation(payload: object) -> bool:
    return (
        isinstance(payload, dict)
        and isinstance(payload.get("query"), str)
        and isinstance(payload.get("variables"), dict | None)
        and isinstance(payload.get("operationName"), str | None)
        and isinstance(payload.get("extensions"), dict | None)
    )
