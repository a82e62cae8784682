"""Who asks, and how refusals are documented: what the routes have in common."""

from collections.abc import Mapping
from typing import Annotated, Any

from api_server.api.dependencies import authenticated_principal
from api_server.api.presets import Problem
from api_server.identity import ADMIN_SCOPE, Principal
from api_server.problem_details import MEDIA_TYPE
from fastapi import Depends

Asker = Annotated[Principal, Depends(authenticated_principal)]

_MEANINGS = {
    400: "The body is no JSON, or none that can be read",
    401: "Nobody is known by these credentials",
    403: f"This is for who has the scope `{ADMIN_SCOPE}`",
    404: "There is no such thing, or it is somebody else's",
    415: "The body is of another type than `application/json`",
    422: "A field breaks a rule",
    429: "You have had as much planned as you may in a minute; `Retry-After` says when enough of that will be left",
    503: "It cannot be answered just now; `Retry-After` says when to try again",
    504: "Planning did not keep to its time",
}

PLANNING_REFUSALS = (400, 415, 422, 429, 504)
"""The statuses by which planning is refused, beside those that everything has."""


def is_admin(asker: Principal) -> bool:
    """Return whether somebody sees what is everybody's."""
    return asker.has_scope(ADMIN_SCOPE)


def problems(*statuses: int, meanings: Mapping[int, str] = _MEANINGS) -> dict[int | str, dict[str, Any]]:
    """Document refusals by these statuses, and by 401 and 503; `meanings` are those that a route has of its own."""
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    known = {**_MEANINGS, **meanings}
    return {status: {"description": known[status], "content": content} for status in (401, *statuses, 503)}
