"""`/api/v1/scenarios`: plans for game states that are kept as presets of the kind `scenario`."""

from typing import Annotated
from uuid import UUID

from api_server.api.dependencies import provide
from api_server.leaving import UnlessClientLeaves
from fastapi import APIRouter, Query, Request, Response

from throttling_sequencer.api.http.v1.answered_plans import answered_plans
from throttling_sequencer.api.http.v1.dtos import CoordinateDto, PlanOptionsDto, PlansDto, SearchQuery, UnitGoalDto
from throttling_sequencer.api.http.v1.problems import PLANNING_REFUSALS, Asker, is_admin, problems
from throttling_sequencer.application.mappers import from_goals
from throttling_sequencer.application.scenarios import ScenarioPlanning

router = APIRouter(prefix="/api/v1/scenarios/{scenario_id}", tags=["scenarios"])

Scenarios = Annotated[ScenarioPlanning, provide(ScenarioPlanning)]


@router.post("/calculate_throttle_steps", responses=problems(404, *PLANNING_REFUSALS))
async def calculate_scenario_steps(
    request: Request,
    scenario_id: UUID,
    asker: Asker,
    scenarios: Scenarios,
    search: Annotated[SearchQuery, Query()],
) -> list[UnitGoalDto]:
    """Plan as `/api/v1/throttle/calculate_throttle_steps` does, for a scenario."""
    async with UnlessClientLeaves(request):
        goals = await scenarios.calculate_throttle_steps(
            scenario_id,
            asker=asker.user_id,
            is_admin=is_admin(asker),
            strategy=search.strategy,
            seed=search.seed,
        )
    return from_goals(goals, coordinate=CoordinateDto, goal=UnitGoalDto)


@router.post("/plan", response_model=PlansDto, responses=problems(404, *PLANNING_REFUSALS))
async def plan_scenario(
    request: Request,
    scenario_id: UUID,
    asker: Asker,
    scenarios: Scenarios,
    options: PlanOptionsDto | None = None,
) -> Response:
    """Plan as `/api/v1/throttle/plan` does, for a scenario; without a body, as is configured."""
    options = options or PlanOptionsDto()
    async with UnlessClientLeaves(request):
        planned = await scenarios.plan(
            scenario_id,
            asker=asker.user_id,
            is_admin=is_admin(asker),
            strategy=options.strategy,
            budget_ms=options.budget_ms,
            seed=options.seed,
            targets=options.targets,
            include=options.include,
        )
        return await answered_plans(planned)
