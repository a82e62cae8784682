"""`/api/v1/throttle`: plans that are computed and not kept."""

from typing import Annotated

from api_server.api.dependencies import provide
from fastapi import APIRouter, Query

from throttling_sequencer.api.http.v1.dtos import CoordinateDto, GameStateDto, SearchQuery, UnitGoalDto
from throttling_sequencer.application.mappers import from_goals
from throttling_sequencer.application.planning import Planning

router = APIRouter(prefix="/api/v1/throttle", tags=["throttle"])


@router.post("/calculate_throttle_steps")
async def calculate_throttle_steps(
    game_state: GameStateDto,
    planning: Annotated[Planning, provide(Planning)],
    search: Annotated[SearchQuery, Query()],
) -> list[UnitGoalDto]:
    """Plan the throttles, one goal per step, of the first player unit on its way to the first enemy unit."""
    goals = await planning.calculate_throttle_steps(game_state, strategy=search.strategy, seed=search.seed)
    return from_goals(goals, coordinate=CoordinateDto, goal=UnitGoalDto)
