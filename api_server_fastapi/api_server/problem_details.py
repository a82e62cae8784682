"""Problem details for HTTP (RFC 9457): the one shape of every error answer."""

import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from starlette.responses import Response

from api_server.validation import FieldProblem

# Python before 3.13 has the older names of these; those of RFC 9110 shall not depend on it.
_RFC_9110 = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
_PHRASES = {status.value: status.phrase for status in HTTPStatus} | _RFC_9110

MEDIA_TYPE = "application/problem+json"

UNSUPPORTED_TYPE = "The Content-Type should be application/json."


def problem_response(
    status: int,
    detail: str,
    *,
    code: str | None = None,
    errors: Sequence[FieldProblem] = (),
    error_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Build the answer; `code` is the stable name of the kind of error, by default that of the status."""
    body = {
        "type": "about:blank",
        "title": _phrase(status),
        "status": status,
        "detail": detail,
        "code": code or re.sub(r"\W+", "_", _phrase(status)).upper(),
    }
    if errors:
        body["errors"] = list(errors)
    if error_id:
        body["error_id"] = error_id
    # ASCII, because what a client sent may be echoed and may hold half a surrogate pair, which UTF-8 cannot carry.
    return Response(json.dumps(body, ensure_ascii=True), status, headers, media_type=MEDIA_TYPE)


def _phrase(status: int) -> str:
    return _PHRASES.get(status, "Unknown Error")
