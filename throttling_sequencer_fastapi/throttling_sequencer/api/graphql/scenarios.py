"""Plans for game states that are kept as presets of the kind `scenario`."""

from collections.abc import AsyncGenerator
from typing import cast
from uuid import UUID

import strawberry
from api_server.graphql.context import GraphQLContext
from api_server.graphql.live import Overflow, live

from throttling_sequencer.api.graphql.owners import is_admin
from throttling_sequencer.api.graphql.subscriptions import shown_goals
from throttling_sequencer.api.graphql.types import (
    BudgetArgument,
    CoordinateType,
    IncludeArgument,
    SeedArgument,
    StrategyArgument,
    TargetsArgument,
    UnitGoalType,
    UnitPlanType,
)
from throttling_sequencer.application.mappers import from_goals
from throttling_sequencer.application.scenarios import ScenarioPlanning
from throttling_sequencer.application.turns import in_turns


@strawberry.type
class ScenarioQuery:
    """Plans of scenarios."""

    @strawberry.field(description="Plan as `calculateThrottleSteps` does, for a scenario.")
    async def calculate_scenario_steps(
        self,
        info: strawberry.Info[GraphQLContext],
        scenario_id: UUID,
        strategy: StrategyArgument = None,
        seed: SeedArgument = None,
    ) -> list[UnitGoalType]:
        goals = await info.context.services.get(ScenarioPlanning).calculate_throttle_steps(
            scenario_id,
            asker=info.context.user_id,
            is_admin=is_admin(info),
            strategy=strategy,
            seed=seed,
        )
        return from_goals(goals, coordinate=CoordinateType, goal=UnitGoalType)

    @strawberry.field(description="Plan as `planThrottle` does, for a scenario.")
    async def plan_scenario(
        self,
        info: strawberry.Info[GraphQLContext],
        scenario_id: UUID,
        *,
        strategy: StrategyArgument = None,
        budget_ms: BudgetArgument = None,
        seed: SeedArgument = None,
        targets: TargetsArgument = None,
        include: IncludeArgument = None,
    ) -> strawberry.Streamable[UnitPlanType]:
        planned = await info.context.services.get(ScenarioPlanning).plan(
            scenario_id,
            asker=info.context.user_id,
            is_admin=is_admin(info),
            strategy=strategy,
            budget_ms=budget_ms,
            seed=seed,
            targets=targets,
            include=include or (),
        )
        # As in `planThrottle`.
        return cast("AsyncGenerator[UnitPlanType, None]", in_turns(planned))


@strawberry.type
class ScenarioSubscription:
    """Plans of scenarios as they are carried out."""

    @strawberry.subscription(description="Plan and send goals as `generateSteps` does, for a scenario.")
    async def generate_scenario_steps(
        self,
        info: strawberry.Info[GraphQLContext],
        scenario_id: UUID,
        strategy: StrategyArgument = None,
        seed: SeedArgument = None,
    ) -> AsyncGenerator[UnitGoalType, None]:
        goals = await info.context.services.get(ScenarioPlanning).generate_steps(
            scenario_id,
            asker=info.context.user_id,
            is_admin=is_admin(info),
            strategy=strategy,
            seed=seed,
        )
        return live(shown_goals(goals), overflow=Overflow.CLOSE)
