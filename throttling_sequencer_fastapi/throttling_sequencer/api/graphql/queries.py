"""What can be asked over GraphQL."""

from collections.abc import AsyncGenerator
from typing import cast

import strawberry
from api_server.graphql.context import GraphQLContext

from throttling_sequencer.api.graphql.types import (
    BudgetArgument,
    CoordinateType,
    GameStateInputType,
    IncludeArgument,
    SeedArgument,
    StrategyArgument,
    TargetsArgument,
    UnitGoalType,
    UnitPlanType,
)
from throttling_sequencer.application.mappers import from_goals
from throttling_sequencer.application.planning import Planning
from throttling_sequencer.application.turns import in_turns


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
        goals = await info.context.services.get(Planning).calculate_throttle_steps(
            game_state_input, asker=info.context.user_id, strategy=strategy, seed=seed
        )
        return from_goals(goals, coordinate=CoordinateType, goal=UnitGoalType)

    @strawberry.field(
        description=(
            "Plan for every player unit, towards its nearest enemy unit or a given one, and tell what explains each "
            "plan."
        )
    )
    async def plan_throttle(
        self,
        info: strawberry.Info[GraphQLContext],
        game_state_input: GameStateInputType,
        *,
        strategy: StrategyArgument = None,
        budget_ms: BudgetArgument = None,
        seed: SeedArgument = None,
        targets: TargetsArgument = None,
        include: IncludeArgument = None,
    ) -> strawberry.Streamable[UnitPlanType]:
        planned = await info.context.services.get(Planning).plan(
            game_state_input,
            asker=info.context.user_id,
            strategy=strategy,
            budget_ms=budget_ms,
            seed=seed,
            targets=targets,
            include=include or (),
        )
        # A list to clients. Its items come one by one, because GraphQL would hold the event loop for all of a thousand;
        # and as they are, because it reads the fields of whatever has them.
        return cast("AsyncGenerator[UnitPlanType, None]", in_turns(planned))
