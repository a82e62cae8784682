"""What can be watched over GraphQL."""

from collections.abc import AsyncGenerator, AsyncIterator

import strawberry
from api_server.graphql.context import GraphQLContext
from api_server.graphql.live import Overflow, live

from throttling_sequencer.api.graphql.types import (
    CoordinateType,
    GameStateInputType,
    SeedArgument,
    StrategyArgument,
    UnitGoalType,
)
from throttling_sequencer.application.live_goals import LiveGoals
from throttling_sequencer.application.mappers import from_goal
from throttling_sequencer.domain.game import UnitGoal


@strawberry.type
class NavigationSubscription:
    """Plans as they are carried out."""

    @strawberry.subscription(
        description="Plan as `calculateThrottleSteps` does, then send the goals of the plan one by one, in real time."
    )
    async def generate_steps(
        self,
        info: strawberry.Info[GraphQLContext],
        game_state_input: GameStateInputType,
        strategy: StrategyArgument = None,
        seed: SeedArgument = None,
    ) -> AsyncGenerator[UnitGoalType, None]:
        goals = await info.context.services.get(LiveGoals).generate_steps(
            game_state_input, asker=info.context.user_id, strategy=strategy, seed=seed
        )
        # Each goal counts, so that a client which takes none is given up, and no goal is.
        return live(shown_goals(goals), overflow=Overflow.CLOSE)


async def shown_goals(goals: AsyncIterator[UnitGoal]) -> AsyncGenerator[UnitGoalType, None]:
    """Build GraphQL's goals as they come."""
    async for goal in goals:
        yield from_goal(goal, coordinate=CoordinateType, goal=UnitGoalType)
