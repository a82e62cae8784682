"""`/api/v1/presets`: documents that users keep under names."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from pydantic import BaseModel

from api_server.api.dependencies import authenticated_principal, provide
from api_server.exceptions import InvalidValueError
from api_server.identity import ADMIN_SCOPE, Principal
from api_server.models.api_model import (
    MOST_VERSIONS,
    PresetCreate,
    PresetDelete,
    PresetPage,
    PresetQuery,
    PresetRead,
    PresetReplace,
)
from api_server.models.db_model import Preset
from api_server.problem_details import MEDIA_TYPE
from api_server.services.preset_service import DEFAULTS_SCOPE, PresetService

PRESETS_PATH = "/api/v1/presets"

Presets = Annotated[PresetService, provide(PresetService)]
Asker = Annotated[Principal, Depends(authenticated_principal)]
IfMatch = Annotated[
    str | None, Header(description='The version that was read, as `ETag` gave it: `"3"`. Else the body says it.')
]


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[dict[Literal["field", "rule"], str]] | None = None


# What the service calls by the names that GraphQL has.
_PARAMETERS = {"first": "limit", "after": "cursor"}

_PROBLEMS = {
    400: "The body is no JSON, or none that can be read",
    401: "Nobody is known by these credentials",
    403: f"This is for who has the scope `{DEFAULTS_SCOPE}` or, to list others' presets, `{ADMIN_SCOPE}`",
    404: "There is no such preset, or it is somebody else's",
    409: "The name is taken, or somebody changed the preset since it was read",
    415: "The body is of another type than `application/json`",
    422: "A field breaks a rule; `errors` lists all that do",
    428: "Neither `If-Match` nor the body says which version was read",
    503: "The database cannot be used just now; `Retry-After` says when to try again",
}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in (401, *statuses, 503)}


_TAGGED: Mapping[str, Any] = {"headers": {"ETag": {"description": "The version", "schema": {"type": "string"}}}}
_LOCATED: Mapping[str, Any] = {
    "headers": {**_TAGGED["headers"], "Location": {"description": "Where it is", "schema": {"type": "string"}}}
}

router = APIRouter(prefix=PRESETS_PATH, tags=["presets"])


@router.post("", status_code=201, responses={201: {**_LOCATED}, **_problems(400, 403, 409, 415, 422)})
async def create_preset(
    given: PresetCreate, request: Request, response: Response, presets: Presets, asker: Asker
) -> PresetRead:
    """Keep a document under a name. The name `default` is for the one that is the whole service's."""
    preset = await presets.create(asker, given.kind, given.name, given.document)
    response.headers["Location"] = f"{request.scope.get('root_path', '')}{PRESETS_PATH}/{preset.id}"
    return _answered(preset, response)


@router.get("", responses=_problems(403, 422))
async def list_presets(query: Annotated[PresetQuery, Query()], presets: Presets, asker: Asker) -> PresetPage:
    """List your presets of a kind and the one that is the whole service's, oldest first; an administrator, others'."""
    try:
        page = await presets.page(asker, query.kind, query.limit, query.cursor, owner=query.owner)
    except InvalidValueError as error:
        raise InvalidValueError(_PARAMETERS.get(error.field, error.field), error.rule) from error
    next_cursor = page.end_cursor if page.has_next else None
    return PresetPage(items=[PresetRead.of(preset) for preset in page.items], next_cursor=next_cursor)


@router.get("/{id}", responses={200: {**_TAGGED}, **_problems(404, 422)})
async def read_preset(
    id: UUID,  # noqa: A002 - as the path has it
    response: Response,
    presets: Presets,
    asker: Asker,
) -> PresetRead:
    """Read a preset; an administrator reads anybody's."""
    return _answered(await presets.get(asker, id), response)


@router.put("/{id}", responses={200: {**_TAGGED}, **_problems(400, 403, 404, 409, 415, 422, 428)})
async def replace_preset(  # noqa: PLR0917 - FastAPI gives them by name
    id: UUID,  # noqa: A002 - as the path has it
    given: PresetReplace,
    response: Response,
    presets: Presets,
    asker: Asker,
    if_match: IfMatch = None,
) -> PresetRead:
    """Give a preset another name or document; the body may be the preset as it was read, changed."""
    version = _version(if_match, given.version)
    if given.id not in (None, id):
        raise InvalidValueError("id", f"should be {id}, as the path says")
    preset = await presets.replace(asker, id, version, given.name, given.document, kind=given.kind)
    return _answered(preset, response)


@router.delete("/{id}", status_code=204, responses=_problems(400, 403, 404, 409, 415, 422, 428))
async def delete_preset(
    id: UUID,  # noqa: A002 - as the path has it
    presets: Presets,
    asker: Asker,
    given: PresetDelete | None = None,
    if_match: IfMatch = None,
) -> None:
    """Delete a preset."""
    version = _version(if_match, given.version if given else None)
    await presets.delete(asker, id, version)


def _refuses(*methods: str) -> Callable[[], Awaitable[None]]:
    async def method_not_allowed() -> None:
        raise HTTPException(405, headers={"Allow": ", ".join(methods)})

    return method_not_allowed


# HEAD goes without saying. Each route knows its own method only, so that one more says which there are.
router.add_api_route("", list_presets, methods=["HEAD"], include_in_schema=False)
router.add_api_route("/{id}", read_preset, methods=["HEAD"], include_in_schema=False)
for _path, _allowed in {"": ("GET", "HEAD", "POST"), "/{id}": ("DELETE", "GET", "HEAD", "PUT")}.items():
    _others = sorted({"DELETE", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"} - {*_allowed})
    router.add_api_route(_path, _refuses(*_allowed), methods=_others, include_in_schema=False)


def presets_router() -> APIRouter:
    """Route the presets; needs the service PresetService."""
    return router


def _answered(preset: Preset, response: Response) -> PresetRead:
    response.headers["ETag"] = f'"{preset.version}"'
    return PresetRead.of(preset)


def _version(if_match: str | None, given: int | None) -> int:
    """Return the version that was read, of which the header and the body say the same where both do."""
    if if_match is None:
        if given is None:
            raise HTTPException(428, 'Say which version you read: by If-Match: "<version>", or by version in the body.')
        return given
    match = re.fullmatch(r'"([1-9][0-9]{0,9})"', if_match)
    if match is None or int(match[1]) > MOST_VERSIONS:
        raise InvalidValueError("If-Match", 'should be the version that was read, in quotes: "3"')
    if given not in (None, int(match[1])):
        raise InvalidValueError("If-Match", f"should be the version of the body, which is {given}")
    return int(match[1])
