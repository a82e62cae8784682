"""Which documents can be kept: JSON that every reader understands, of a bounded size, that fits a model."""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError

from api_server.exceptions import InvalidFieldsError
from api_server.validation import FieldProblem, field_problems

Location: TypeAlias = tuple[str | int, ...]

_FIELD = "document"
_LARGEST = 2**20
_DEEPEST = 200  # which is how deep pydantic reads
_MOST_VALUES = 30_000
_MOST_PROBLEMS = 1_000

# What may be a NUL, or a number that no double holds; a closer look tells.
_SUSPICIOUS = re.compile(r"\\u0000|(?<![0-9])[0-9]{309}")
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")
_TOO_DEEP = "is nested too deeply"


def checked_document(model: type[BaseModel], document: object) -> dict[str, Any]:
    """Return the document as the model completes it, such that it would be accepted again as it is.

    Raises InvalidFieldsError, whose paths begin with `document`.
    """
    if not isinstance(document, dict):
        raise _invalid("should be an object")
    if not _has_few_values(document):
        raise _invalid(f"should hold at most {_MOST_VALUES} values")
    try:
        value = model.model_validate_json(_json_of(document))
    except ValidationError as error:
        raise InvalidFieldsError(_problems_of(error)) from error
    kept = value.model_dump(mode="json", by_alias=True, round_trip=True)
    # A model may make of what it is given what JSON has not: the number inf of a string, for one.
    _json_of(kept)
    return kept


def _has_few_values(document: dict[str, Any]) -> bool:
    """Count what stands in objects and lists: what is wrong with all of it would take long to find out."""
    waiting: list[object] = [document]
    values = 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            values += len(value)
            if values > _MOST_VALUES:
                return False
            waiting += value.values() if isinstance(value, dict) else value
    return True


def _json_of(document: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(document, allow_nan=False, ensure_ascii=False)
        encoded = text.encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise next(_unwritable(document), _invalid("should be JSON")) from error
    if len(encoded) > _LARGEST:
        raise _invalid(f"should be at most {_LARGEST} bytes of JSON")
    if _SUSPICIOUS.search(text) and (found := next(_unwritable(document), None)):
        raise found
    return encoded


def _unwritable(document: object) -> Iterator[InvalidFieldsError]:
    """Find what makes a document unwritable; without recursion, because that may be how deep it is."""
    waiting: list[tuple[Location, object]] = [((), document)]
    while waiting:
        location, value = waiting.pop()
        if rule := _broken_rule(value):
            yield _invalid(rule, location)
        elif len(location) >= _DEEPEST:
            yield _invalid(_TOO_DEEP)
        elif isinstance(value, dict):
            waiting += [((*location, key), item) for key, item in value.items()]
        elif isinstance(value, list):
            waiting += [((*location, index), item) for index, item in enumerate(value)]


def _broken_rule(value: object) -> str | None:
    match value:
        case str() if _UNWRITABLE.search(value):
            return "should hold no NUL and no halves of a character"
        case dict() if any(_UNWRITABLE.search(key) for key in value):
            return "should have keys without NUL and halves of a character"
        case float() if not isfinite(value):
            return "should be a finite number"
        case int() if abs(value) > sys.float_info.max:
            return "should be a number that JSON can carry"
        case str() | dict() | list() | int() | float() | None:
            return None
        case _:
            return "should be JSON"


def _problems_of(error: ValidationError) -> Sequence[FieldProblem]:
    if error.error_count() > _MOST_PROBLEMS:
        # To list them all would hold up everybody else.
        return [{"field": _FIELD, "rule": f"breaks rules in {error.error_count()} places"}]
    found = error.errors(include_url=False, include_input=False)
    if any(item["type"] == "json_invalid" for item in found):
        # It was written here, so that nothing else can be wrong with it.
        return [{"field": _FIELD, "rule": _TOO_DEEP}]
    return field_problems([{**item, "loc": (_FIELD, *item["loc"])} for item in found])


def _invalid(rule: str, location: Location = ()) -> InvalidFieldsError:
    path = _FIELD + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return InvalidFieldsError([{"field": path, "rule": rule}])
