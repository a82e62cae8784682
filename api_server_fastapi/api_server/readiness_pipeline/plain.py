"""Whatever a check says, as JSON can carry it: of bounded size, and always text that can be encoded."""

from collections.abc import Mapping
from itertools import islice

_LONGEST = 1000
_MOST = 50
_DEEPEST = 4


def plain_text(value: object) -> str:
    """Return a text of at most a thousand characters, in which nothing is left that UTF-8 has no bytes for."""
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception as error:  # noqa: BLE001 - the edge: what cannot say what it is must not hide what a check found
        text = f"<{type(value).__name__}: {type(error).__name__}>"
    shortened = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return shortened.encode("utf-8", "backslashreplace").decode("utf-8")


def plain(value: object, depth: int = _DEEPEST) -> object:
    """Return a value that JSON can carry; of what is large or deep, the beginning."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= 64 else plain_text(value)  # noqa: PLR2004 - as other languages read it
    if isinstance(value, float) and abs(value) < float("inf"):
        return value
    if depth and isinstance(value, Mapping):
        return {plain_text(key): plain(item, depth - 1) for key, item in islice(value.items(), _MOST)}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth - 1) for item in islice(value, _MOST)]
    return plain_text(value)


def plain_details(details: object) -> dict[str, object]:
    """Return the details of a check as a mapping, which they should be."""
    if isinstance(details, Mapping):
        return {plain_text(key): plain(item) for key, item in islice(details.items(), _MOST)}
    return {"details": plain(details)}
