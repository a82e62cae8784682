"""Turns what a REST endpoint raises into problem details."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api_server.error_statuses import ERROR_STATUSES
from api_server.exceptions import CodedError, FieldError, FieldsError, RetryableError
from api_server.problem_details import UNSUPPORTED_TYPE, problem_response
from api_server.validation import FieldProblem, field_problems

# An answer tells enough to go on with, however much is wrong.
_MOST_IN_DETAIL = 3
_MOST_PROBLEMS = 50


def register_exception_handlers(app: FastAPI, errors: Mapping[type[Exception], int] | None = None) -> None:
    """Answer every error of `app` in one shape.

    `errors` maps exception classes with a `code` to their status, besides the foundation's own.
    """
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    for error_class, status in {**ERROR_STATUSES, **(errors or {})}.items():
        app.add_exception_handler(error_class, _coded_error(status))


async def _http_exception(request: Request, error: Exception) -> Response:  # noqa: ARG001 - starlette's signature
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ValueError | RecursionError):
        # The body could not even be parsed: bytes that are no text, brackets without end.
        return _unacceptable(error.status_code, [{"field": "body", "rule": "should be valid JSON"}])
    return problem_response(error.status_code, str(error.detail), headers=error.headers)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if any(item["loc"] == ("body",) for item in error.errors()) and not _is_json(request):
        # FastAPI does not look into such a body, and would complain of its type.
        return problem_response(415, UNSUPPORTED_TYPE)
    # A location begins with where the field stands: body, query, path, header.
    return _unacceptable(422, field_problems(error.errors(), within=1))


def _is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def _unacceptable(status: int, problems: Sequence[FieldProblem], code: str = "INVALID_VALUE") -> Response:
    detail = "; ".join(f"{problem['field']} {problem['rule']}" for problem in problems[:_MOST_IN_DETAIL])
    if (more := len(problems) - _MOST_IN_DETAIL) > 0:
        detail += f"; and {more} more"
    return problem_response(status, detail, code=code, errors=problems[:_MOST_PROBLEMS])


def _coded_error(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handler(request: Request, error: Exception) -> Response:  # noqa: ARG001 - starlette's signature
        assert isinstance(error, CodedError)
        if isinstance(error, FieldsError):
            return _unacceptable(status, error.problems, error.code)
        fields: list[FieldProblem] = (
            [{"field": error.field, "rule": error.rule}] if isinstance(error, FieldError) else []
        )
        headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, RetryableError) else None
        return problem_response(status, str(error), code=error.code, errors=fields, headers=headers)

    return handler
