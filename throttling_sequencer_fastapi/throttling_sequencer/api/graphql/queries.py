"""What can be asked over GraphQL."""

from typing import Annotated

import strawberry
from api_server.graphql.context import GraphQLContext
from api_server.graphql.part import GraphQLPart

from throttling_sequencer.api.graphql.types import CoordinateType, GameStateInputType, UnitGoalType
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
        strategy: Annotated[
            str | None, strawberry.argument(description="The path finder; by default the configured one.")
        ] = None,
        seed: Annotated[
            int | None,
            strawberry.argument(
                description="Makes the search repeatable, as far as its generations end it and not its time."
            ),
        ] = None,
    ) -> list[UnitGoalType]:
        planning = info.context.services.get(Planning)
        goals = await planning.calculate_throttle_steps(game_state_input, strategy=strategy, seed=seed)
        return from_goals(goals, coordinate=CoordinateType, goal=UnitGoalType)


SEQUENCER_PART = GraphQLPart(query=ThrottleQuery)
