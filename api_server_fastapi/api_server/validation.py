"""Says in one way what pydantic found wrong, wherever the value came from."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class FieldProblem(TypedDict):
    """An input field and the rule that it breaks."""

    field: str
    rule: str


_MOST_FIELDS = 20


def few_fields(given: Any) -> Any:  # noqa: ANN401 - it is not validated yet
    """Refuse an object that has very many fields; to say of each that it is not known would hold up everybody else.

    A validator that a model, or a field that holds one, runs before all others. For lists pydantic has FailFast.
    """
    if isinstance(given, dict) and len(given) > _MOST_FIELDS:
        raise ValueError(f"should have at most {_MOST_FIELDS} fields")
    return given


def field_problems(errors: Sequence[Mapping[str, Any]], *, within: int = 0) -> list[FieldProblem]:
    """Translate the errors of a pydantic validation, whose locations begin with `within` parts that are no fields.

    Neither the input nor the context of an error is repeated: they may be large, and may be what JSON cannot carry.
    """
    return [_problem(error, tuple(error["loc"])[within:]) for error in errors]


def _problem(error: Mapping[str, Any], location: tuple[str | int, ...]) -> FieldProblem:
    if error["type"] == "json_invalid":
        return {"field": "body", "rule": "should be valid JSON"}
    raised = error.get("ctx", {}).get("error")
    # A rule of a domain, which knows itself where in the validated object it was broken.
    field, rule = getattr(raised, "field", None), getattr(raised, "rule", None)
    if isinstance(field, str) and isinstance(rule, str):
        return {"field": _path((*location, field)), "rule": rule}
    return {"field": _path(location) or "body", "rule": _rule(error["type"], error["msg"])}


def _path(location: Sequence[str | int]) -> str:
    """Write a location as a path, `('units', 0, 'mass')` as `units[0].mass`."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _rule(kind: str, message: str) -> str:
    match kind:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is not known here"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "should be an object"
        case "value_error":
            return message.removeprefix("Value error, ")
        case _:
            # It begins with what pydantic calls the value: Input, String, List.
            return re.sub(r"^[A-Z][a-z]+ (?=should )", "", message).partition(", unable to parse")[0]
