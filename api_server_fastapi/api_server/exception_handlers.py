"""Turns what a REST endpoint raises into problem details."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api_server.exceptions import CodedError, FieldError, RetryableError
from api_server.problem_details import FieldProblem, problem_response


def register_exception_handlers(app: FastAPI, errors: Mapping[type[Exception], int]) -> None:
    """Answer every error of `app` in one shape; `errors` maps exception classes with a `code` to their status."""
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    for error_class, status in errors.items():
        app.add_exception_handler(error_class, _coded_error(status))


async def _http_exception(request: Request, error: Exception) -> Response:  # noqa: ARG001 - starlette's signature
    assert isinstance(error, HTTPException)
    return problem_response(error.status_code, str(error.detail), headers=error.headers)


async def _validation_error(request: Request, error: Exception) -> Response:  # noqa: ARG001 - starlette's signature
    assert isinstance(error, RequestValidationError)
    # Neither input nor context is echoed: they may be what JSON cannot carry (NaN), and may be large.
    problems: list[FieldProblem] = [
        {"field": "body", "rule": "should be valid JSON"}
        if item["type"] == "json_invalid"
        else {"field": field_path(item["loc"][1:]) or str(item["loc"][0]), "rule": _rule(item["type"], item["msg"])}
        for item in error.errors()
    ]
    detail = "; ".join(f"{problem['field']} {problem['rule']}" for problem in problems[:3])
    return problem_response(422, detail, code="INVALID_VALUE", errors=problems)


def _coded_error(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handler(request: Request, error: Exception) -> Response:  # noqa: ARG001 - starlette's signature
        assert isinstance(error, CodedError)
        fields: list[FieldProblem] = (
            [{"field": error.field, "rule": error.rule}] if isinstance(error, FieldError) else []
        )
        headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, RetryableError) else None
        return problem_response(status, str(error), code=error.code, errors=fields, headers=headers)

    return handler


def field_path(location: Sequence[str | int]) -> str:
    """Write a pydantic location as a path, `('units', 0, 'mass')` as `units[0].mass`."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _rule(kind: str, message: str) -> str:
    match kind:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is not a field of this object"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "should be an object"
        case _:
            return message.removeprefix("Input ")
