"""What can be asked over GraphQL."""

import strawberry
from api_server.graphql.context import GraphQLContext

from throttling_sequencer.api.graphql.types import (
    CoordinateType,
    GameStateInputType,
    SeedArgument,
    StrategyArgument,
    UnitGoalType,
)
from throttling_sequencer.application.mappers import from_goals
from throttling_sequencer.application.planning import Planning


@strawberry.type
class ThrottleQuery:
    """Plans that are computed and not kept."""

    @strawberry.field(
        description="Plan the throttles, one goal per step, of the first player unit towards the first enemy unit."
    )
    async def calculate_throttle_steps(
        self,
        info: strawberry.Info[GraphQLContext],
        game_state_input: GameStateInputType,
        strategy: StrategyArgument = None,
        seed: SeedArgument = None,
    ) -> list[UnitGoalType]:
        planning = info.context.services.get(Planning)
        goals = await planning.calculate_throttle_steps(game_state_input, strategy=strategy, seed=seed)
        return from_goals(goals, coordinate=CoordinateType, goal=UnitGoalType)
