"""`/api/v1/plans`: plans that are kept."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from api_server.api.dependencies import provide
from api_server.leaving import UnlessClientLeaves
from fastapi import APIRouter, HTTPException, Query, Request, Response

from throttling_sequencer.api.http.v1.answered_plans import encoded_stored_plan
from throttling_sequencer.api.http.v1.dtos import (
    StoredPlanDto,
    StoredPlanPageDto,
    StoredPlanQuery,
    StoredPlanRequestDto,
)
from throttling_sequencer.api.http.v1.idempotency_key import IDEMPOTENCY_KEY, GivenKey, written
from throttling_sequencer.api.http.v1.problems import PLANNING_REFUSALS, Asker, is_admin, problems
from throttling_sequencer.application.stored_plans import StoredPlans
from throttling_sequencer.domain.errors import IdempotencyKeyReusedError, InvalidValueError

STORED_PLANS_PATH = "/api/v1/plans"

Plans = Annotated[StoredPlans, provide(StoredPlans)]

# What the application calls by the names that GraphQL has.
_PARAMETERS = {"first": "limit", "after": "cursor"}

_MEANINGS = {
    422: "A field breaks a rule, or the `Idempotency-Key` is that of another request",
    503: "It cannot be answered just now; `Retry-After` says when to try again. The code `OUTCOME_UNKNOWN` says that "
    "the plan may have been kept, any other that this request kept none",
    504: "Planning did not keep to its time; this request kept no plan",
}


def _header(description: str) -> Mapping[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


_STORED: Mapping[str, Any] = {
    "headers": {
        "Location": _header("Where it is"),
        IDEMPOTENCY_KEY: _header("The key of the request: the one given, or the one made up"),
        "Idempotency-Replayed": _header("`true` where the plan is that of an earlier request with this key"),
    }
}

router = APIRouter(prefix=STORED_PLANS_PATH, tags=["plans"])


@router.post(
    "",
    status_code=201,
    response_model=StoredPlanDto,
    responses={201: {**_STORED}, **problems(*PLANNING_REFUSALS, meanings=_MEANINGS)},
)
async def store_plan(
    request: Request, given: StoredPlanRequestDto, plans: Plans, asker: Asker, key: GivenKey
) -> Response:
    """Plan as `/api/v1/throttle/plan` does, and keep the plan: it is answered when it will stay."""
    try:
        kept = await plans.store(
            given,
            asker=asker.user_id,
            key=key,
            strategy=given.strategy,
            budget_ms=given.budget_ms,
            seed=given.seed,
            targets=given.targets,
            while_planning=partial(UnlessClientLeaves, request),
        )
    except IdempotencyKeyReusedError as error:
        raise IdempotencyKeyReusedError(IDEMPOTENCY_KEY) from error
    headers = {
        "Location": f"{request.scope.get('root_path', '')}{STORED_PLANS_PATH}/{kept.plan.plan_id}",
        IDEMPOTENCY_KEY: written(kept.plan.key),
    }
    if kept.is_replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(await encoded_stored_plan(kept.plan), 201, headers, media_type="application/json")


@router.get("", response_model=StoredPlanPageDto, responses=problems(403, 422))
async def list_plans(
    request: Request, query: Annotated[StoredPlanQuery, Query()], plans: Plans, asker: Asker
) -> Response:
    """List your plans, newest first; fewer than `limit` where they are large. An administrator may list others'."""
    async with UnlessClientLeaves(request):
        try:
            page = await plans.page(
                query.limit, query.cursor, asker=asker.user_id, is_admin=is_admin(asker), owner=query.owner
            )
        except InvalidValueError as error:
            raise InvalidValueError(_PARAMETERS.get(error.field, error.field), error.rule) from error
        items = [await encoded_stored_plan(plan) for plan in page.plans]
    next_cursor = f'"{page.end_cursor}"' if page.has_next else "null"
    body = b'{"items":[%b],"next_cursor":%b}' % (b",".join(items), next_cursor.encode())
    return Response(body, media_type="application/json")


@router.get("/{id}", response_model=StoredPlanDto, responses=problems(404, 422))
async def read_plan(
    request: Request,
    id: UUID,  # noqa: A002 - as the path has it
    plans: Plans,
    asker: Asker,
) -> Response:
    """Read a plan of yours; an administrator reads anybody's."""
    async with UnlessClientLeaves(request):
        body = await encoded_stored_plan(await plans.get(id, asker=asker.user_id, is_admin=is_admin(asker)))
    return Response(body, media_type="application/json")


def _refuses(*methods: str) -> Callable[[], Awaitable[None]]:
    async def method_not_allowed() -> None:
        raise HTTPException(405, headers={"Allow": ", ".join(methods)})

    return method_not_allowed


# HEAD goes without saying. Each route knows its own method only, so that one more says which there are.
router.add_api_route("", list_plans, methods=["HEAD"], include_in_schema=False)
router.add_api_route("/{id}", read_plan, methods=["HEAD"], include_in_schema=False)
for _path, _allowed in {"": ("GET", "HEAD", "POST"), "/{id}": ("GET", "HEAD")}.items():
    _others = sorted({"DELETE", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"} - {*_allowed})
    router.add_api_route(_path, _refuses(*_allowed), methods=_others, include_in_schema=False)
