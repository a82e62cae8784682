"""`/api/v1/throttle`: plans that are computed and not kept."""

from typing import Annotated

from api_server.api.dependencies import provide
from api_server.leaving import UnlessClientLeaves
from fastapi import APIRouter, Query, Request, Response

from throttling_sequencer.api.http.v1.answered_plans import answered_plans
from throttling_sequencer.api.http.v1.dtos import (
    CoordinateDto,
    GameStateDto,
    PlanRequestDto,
    PlansDto,
    SearchQuery,
    UnitGoalDto,
)
from throttling_sequencer.api.http.v1.problems import PLANNING_REFUSALS, Asker, problems
from throttling_sequencer.application.mappers import from_goals
from throttling_sequencer.application.planning import Planning

router = APIRouter(prefix="/api/v1/throttle", tags=["throttle"])


@router.post("/calculate_throttle_steps", responses=problems(*PLANNING_REFUSALS))
async def calculate_throttle_steps(
    request: Request,
    game_state: GameStateDto,
    planning: Annotated[Planning, provide(Planning)],
    search: Annotated[SearchQuery, Query()],
    asker: Asker,
) -> list[UnitGoalDto]:
    """Plan the throttles, one goal per step, of the first player unit on its way to the first enemy unit."""
    async with UnlessClientLeaves(request):
        goals = await planning.calculate_throttle_steps(
            game_state, asker=asker.user_id, strategy=search.strategy, seed=search.seed
        )
    return from_goals(goals, coordinate=CoordinateDto, goal=UnitGoalDto)


@router.post("/plan", response_model=PlansDto, responses=problems(*PLANNING_REFUSALS))
async def plan(
    request: Request, plan_request: PlanRequestDto, planning: Annotated[Planning, provide(Planning)], asker: Asker
) -> Response:
    """Plan for every player unit, towards its nearest enemy unit or a given one, and tell what explains each plan."""
    async with UnlessClientLeaves(request):
        planned = await planning.plan(
            plan_request,
            asker=asker.user_id,
            strategy=plan_request.strategy,
            budget_ms=plan_request.budget_ms,
            seed=plan_request.seed,
            targets=plan_request.targets,
            include=plan_request.include,
        )
        return await answered_plans(planned)
