"""Completes the OpenAPI document: what any endpoint may answer besides what it says itself."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from fastapi import FastAPI

from api_server.problem_details import MEDIA_TYPE

Operation = dict[str, Any]

_ANYWHERE = {"500": "Something went wrong; the log has it under the `error_id`"}
_WITH_IDENTITY = {
    "401": "Nobody is known by these credentials",
    "503": "It cannot be answered just now; `Retry-After` says when to try again",
}
_WITH_BODY = {
    "400": "The body is no JSON, or none that can be read",
    "413": "The body is too long",
    "415": "The body is of another type than `application/json`, or packed",
}
_WITH_INPUT = {"422": "A field breaks a rule; `errors` lists them"}

_GRAPHQL_REQUEST = {
    "type": "object",
    "required": ["query"],
    "properties": {
        "query": {"type": "string"},
        "variables": {"type": ["object", "null"]},
        "operationName": {"type": ["string", "null"]},
    },
}
_GRAPHQL_ANSWER = {
    "type": "object",
    "properties": {"data": {"type": ["object", "null"]}, "errors": {"type": "array", "items": {"type": "object"}}},
}
_GRAPHQL_REFUSALS = {
    "400": "No operation that can be read",
    "404": "Nothing here",
    "406": "A subscription has many answers",
}
_GRAPHQL_READ_REFUSALS = {"405": "A mutation is posted"}


def complete_documentation(app: FastAPI, *, public_paths: Collection[str], graphql_path: str) -> None:
    """Have every operation of the app's OpenAPI document name the errors that it may answer, as problem details.

    What an endpoint says of itself stays, but for FastAPI's own account of a 422, which this service does not give.
    Whoever asks for one of `public_paths` needs no identity.
    """
    incomplete = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            from api_server.api.presets import Problem  # noqa: PLC0415 - a service may have no presets, nor SQLModel

            document = incomplete()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            for path, operation in _operations(document):
                if path == graphql_path:
                    _describe_graphql(operation)
                _add_problems(operation, _problems_of(operation, needs_identity=path not in public_paths))
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI means it to be extended


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, Operation]]:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            yield path, operation


def _problems_of(operation: Operation, *, needs_identity: bool) -> dict[str, str]:
    has_body = "requestBody" in operation
    return {
        **_ANYWHERE,
        **(_WITH_IDENTITY if needs_identity else {}),
        **(_WITH_BODY if has_body else {}),
        **(_WITH_INPUT if has_body or operation.get("parameters") else {}),
    }


def _add_problems(operation: Operation, problems: Mapping[str, str]) -> None:
    answers = operation["responses"]
    if "HTTPValidationError" in str(answers.get("422")):
        del answers["422"]
    for status, description in problems.items():
        answer = answers.setdefault(status, {"description": description})
        answer.setdefault("content", {}).setdefault(MEDIA_TYPE, {"schema": {"$ref": "#/components/schemas/Problem"}})


def _describe_graphql(operation: Operation) -> None:
    """Say what is posted and answered, of which Strawberry says nothing."""
    content: dict[str, Any] = {"application/json": {"schema": _GRAPHQL_ANSWER}, "text/event-stream": {}}
    is_read = "404" in operation["responses"]
    if is_read:
        content["text/html"] = {"schema": {"type": "string"}}
        operation["responses"].pop("404")
    else:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _GRAPHQL_REQUEST}},
        }
    operation["responses"]["200"] = {
        "description": "The result, its events one by one, or GraphiQL for a browser" if is_read else "The result",
        "content": content,
    }
    _add_problems(operation, {**_GRAPHQL_REFUSALS, **(_GRAPHQL_READ_REFUSALS if is_read else {})})
