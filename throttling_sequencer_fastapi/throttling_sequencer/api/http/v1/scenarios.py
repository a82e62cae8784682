"""`/api/v1/scenarios`: plans for game states that are kept as presets of the kind `scenario`."""

from typing import Annotated
from uuid import UUID

from api_server.api.dependencies import authenticated_principal, provide
from api_server.identity import Principal
from api_server.leaving import UnlessClientLeaves
from fastapi import APIRouter, Depends, Query, Request, Response

from throttling_sequencer.api.http.v1.answered_plans import answered_plans
from throttling_sequencer.api.http.v1.dtos import CoordinateDto, PlanOptionsDto, PlansDto, SearchQuery, UnitGoalDto
from throttling_sequencer.application.mappers import from_goals
from throttling_sequencer.application.scenarios import ScenarioPlanning

router = APIRouter(prefix="/api/v1/scenarios/{scenario_id}", tags=["scenarios"])

CurrentPrincipal = Annotated[Principal, Depends(authenticated_principal)]
Scenarios = Annotated[ScenarioPlanning, provide(ScenarioPlanning)]


@router.post("/calculate_throttle_steps")
async def calculate_scenario_steps(
    request: Request,
    scenario_id: UUID,
    principal: CurrentPrincipal,
    scenarios: Scenarios,
    search: Annotated[SearchQuery, Query()],
) -> list[UnitGoalDto]:
    """Plan as `/api/v1/throttle/calculate_throttle_steps` does, for a scenario."""
    async with UnlessClientLeaves(request):
        goals = await scenarios.calculate_throttle_steps(
            scenario_id, principal.user_id, strategy=search.strategy, seed=search.seed
        )
    return from_goals(goals, coordinate=CoordinateDto, goal=UnitGoalDto)


@router.post("/plan", response_model=PlansDto)
async def plan_scenario(
    request: Request,
    scenario_id: UUID,
    principal: CurrentPrincipal,
    scenarios: Scenarios,
    options: PlanOptionsDto | None = None,
) -> Response:
    """Plan as `/api/v1/throttle/plan` does, for a scenario; without a body, as is configured."""
    options = options or PlanOptionsDto()
    async with UnlessClientLeaves(request):
        planned = await scenarios.plan(
            scenario_id,
            principal.user_id,
            strategy=options.strategy,
            budget_ms=options.budget_ms,
            seed=options.seed,
            targets=options.targets,
            include=options.include,
        )
        return await answered_plans(planned)
