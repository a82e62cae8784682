"""`/api/v1/throttle`: plans that are computed and not kept."""

from typing import Annotated

from api_server.api.dependencies import provide
from api_server.leaving import UnlessClientLeaves
from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter

from throttling_sequencer.api.http.v1.dtos import (
    CoordinateDto,
    GameStateDto,
    PlanDto,
    PlanRequestDto,
    PlansDto,
    SearchQuery,
    UnitGoalDto,
)
from throttling_sequencer.application.mappers import from_goals
from throttling_sequencer.application.planned_units import PlannedUnit
from throttling_sequencer.application.planning import Planning
from throttling_sequencer.application.turns import in_turns

router = APIRouter(prefix="/api/v1/throttle", tags=["throttle"])

_PLAN = TypeAdapter(PlanDto)


@router.post("/calculate_throttle_steps")
async def calculate_throttle_steps(
    request: Request,
    game_state: GameStateDto,
    planning: Annotated[Planning, provide(Planning)],
    search: Annotated[SearchQuery, Query()],
) -> list[UnitGoalDto]:
    """Plan the throttles, one goal per step, of the first player unit on its way to the first enemy unit."""
    async with UnlessClientLeaves(request):
        goals = await planning.calculate_throttle_steps(game_state, strategy=search.strategy, seed=search.seed)
    return from_goals(goals, coordinate=CoordinateDto, goal=UnitGoalDto)


@router.post("/plan", response_model=PlansDto)
async def plan(
    request: Request, plan_request: PlanRequestDto, planning: Annotated[Planning, provide(Planning)]
) -> Response:
    """Plan for every player unit, towards its nearest enemy unit or a given one, and tell what explains each plan."""
    async with UnlessClientLeaves(request):
        planned = await planning.plan(
            plan_request,
            strategy=plan_request.strategy,
            budget_ms=plan_request.budget_ms,
            seed=plan_request.seed,
            targets=plan_request.targets,
            include=plan_request.include,
        )
        # Unit by unit, since FastAPI would hold the event loop for all of a thousand; and all of them before the
        # first byte, so that nothing can fail when the status has been sent.
        plans = [_encoded(unit) async for unit in in_turns(planned)]
    return Response(b'{"plans":[%b]}' % b",".join(plans), media_type="application/json")


def _encoded(unit: PlannedUnit) -> bytes:
    return _PLAN.dump_json(_PLAN.validate_python(unit, from_attributes=True))
