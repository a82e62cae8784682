"""Plans that are kept, over GraphQL."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Annotated, cast
from uuid import UUID

import strawberry
from api_server.graphql.columns import FloatColumn, IntColumn
from api_server.graphql.context import GraphQLContext
from api_server.graphql.paging import PageInfo

from throttling_sequencer.api.graphql.owners import OwnerArgument, is_admin
from throttling_sequencer.api.graphql.plan_reading import PlanReading
from throttling_sequencer.api.graphql.types import (
    BudgetArgument,
    GameStateInputType,
    ScorePartsType,
    SeedArgument,
    StrategyArgument,
    TargetsArgument,
)
from throttling_sequencer.application.stored_plans import StoredPlans
from throttling_sequencer.application.turns import in_turns
from throttling_sequencer.domain.errors import InvalidValueError
from throttling_sequencer.domain.game import Unit
from throttling_sequencer.domain.stored_plan import StoredPlan, StoredUnitPlan

# Of a page's plans together: GraphQL takes several times as long for each as REST does.
_MOST_NUMBERS = 20_000

Info = strawberry.Info[GraphQLContext]
KeyArgument = Annotated[
    str | None,
    strawberry.argument(description="A key for this request; one is made up where it is missing."),
]


@strawberry.type(name="UnitColumns", description="Units, a quantity at a time.")
class UnitColumnsType:
    """The units of a side, as answered."""

    x: FloatColumn
    y: FloatColumn
    speeds: FloatColumn
    masses: FloatColumn
    frictions: FloatColumn


@strawberry.type(name="StoredUnitPlan", description="The plan of one player unit, and what explains it.")
class StoredUnitPlanType:
    """The plan of a unit, as answered."""

    unit: int = strawberry.field(description="The index of the player unit.")
    target: int = strawberry.field(description="The index of the enemy unit that it heads for.")
    throttles: IntColumn = strawberry.field(description="The throttle of each step.")
    score: float = strawberry.field(description="What the plan costs; lower is better.")
    score_parts: ScorePartsType
    lower_bound: float | None = strawberry.field(description="No plan can score less; null where nothing was proven.")
    gap: float | None = strawberry.field(description="How far the score is above the lower bound.")
    final_speed: float
    distance_covered: float


@strawberry.type(
    name="PlanRequest", description="What was asked, as it was asked; null is what was left to the service."
)
class PlanRequestType:
    """A request, as answered."""

    player_units: UnitColumnsType
    enemy_units: UnitColumnsType
    strategy: str | None
    budget_ms: int | None
    seed: int | None
    targets: IntColumn | None


@strawberry.type(name="StoredPlan", description="A plan that is kept.")
class StoredPlanType:
    """A stored plan, as answered."""

    id: strawberry.ID
    owner_id: str = strawberry.field(description="Who had it stored.")
    idempotency_key: str = strawberry.field(description="Whoever asks again by this key gets this plan.")
    request: PlanRequestType
    strategy: str = strawberry.field(description="The path finder that made it.")
    seed: int | None = strawberry.field(description="What repeats the search; null where it has no randomness.")
    created_at: datetime
    units: strawberry.Private[Sequence[StoredUnitPlan]]

    @strawberry.field(description="A plan for each player unit, in their order.")
    async def plans(self) -> strawberry.Streamable[StoredUnitPlanType]:
        # As in `planThrottle`.
        return cast("AsyncGenerator[StoredUnitPlanType, None]", in_turns(self.units))


@strawberry.type(name="StoredPlanPage", description="Plans, newest first.")
class StoredPlanPageType:
    """A page, as answered."""

    nodes: list[StoredPlanType]
    page_info: PageInfo


@strawberry.type
class StoredPlanQuery:
    """What users can ask about their plans."""

    @strawberry.field(description="One of your plans; to an administrator anybody's.")
    async def plan(self, info: Info, id: strawberry.ID) -> StoredPlanType | None:  # noqa: A002 - as the schema has it
        async with info.context.services.get(PlanReading).of_a_plan():
            plans = info.context.services.get(StoredPlans)
            return _shown(await plans.get(_uuid(id), asker=info.context.user_id, is_admin=is_admin(info)))

    @strawberry.field(
        description="Your plans, newest first, up to 100 a page, fewer where they are large; an administrator may see"
        " others'."
    )
    async def plans(
        self,
        info: Info,
        first: Annotated[int, strawberry.argument(description="How many, 1 to 100.")] = 20,
        after: Annotated[str | None, strawberry.argument(description="The endCursor of an earlier page.")] = None,
        owner: OwnerArgument = None,
    ) -> StoredPlanPageType | None:
        async with info.context.services.get(PlanReading).of_a_page():
            page = await info.context.services.get(StoredPlans).page(
                first,
                after,
                asker=info.context.user_id,
                is_admin=is_admin(info),
                owner=owner,
                most_numbers=_MOST_NUMBERS,
            )
        return StoredPlanPageType(
            nodes=[_shown(plan) for plan in page.plans],
            page_info=PageInfo(end_cursor=page.end_cursor, has_next_page=page.has_next),
        )


@strawberry.type
class StoredPlanMutation:
    """What users can have kept; null where it fails, so that it takes no other field's answer away."""

    @strawberry.mutation(description="Plan as `planThrottle` does, and keep the plan: answered when it will stay.")
    async def store_plan(
        self,
        info: Info,
        game_state_input: GameStateInputType,
        *,
        idempotency_key: KeyArgument = None,
        strategy: StrategyArgument = None,
        budget_ms: BudgetArgument = None,
        seed: SeedArgument = None,
        targets: TargetsArgument = None,
    ) -> StoredPlanType | None:
        kept = await info.context.services.get(StoredPlans).store(
            game_state_input,
            asker=info.context.user_id,
            key=idempotency_key,
            strategy=strategy,
            budget_ms=budget_ms,
            seed=seed,
            targets=targets,
        )
        return _shown(kept.plan)


def _shown(plan: StoredPlan) -> StoredPlanType:
    request = plan.request
    return StoredPlanType(
        id=strawberry.ID(str(plan.plan_id)),
        owner_id=plan.owner_id,
        idempotency_key=plan.key,
        request=PlanRequestType(
            player_units=_columns(request.game_state.player_units),
            enemy_units=_columns(request.game_state.enemy_units),
            strategy=request.strategy,
            budget_ms=request.budget_ms,
            seed=request.seed,
            targets=None if request.targets is None else IntColumn(request.targets),
        ),
        strategy=plan.strategy,
        seed=plan.seed,
        created_at=plan.created_at,
        units=plan.units,
    )


def _columns(units: Sequence[Unit]) -> UnitColumnsType:
    return UnitColumnsType(
        x=FloatColumn([unit.coordinate.x for unit in units]),
        y=FloatColumn([unit.coordinate.y for unit in units]),
        speeds=FloatColumn([unit.speed for unit in units]),
        masses=FloatColumn([unit.mass for unit in units]),
        frictions=FloatColumn([unit.friction for unit in units]),
    )


def _uuid(given: str) -> UUID:
    try:
        # It takes digits of every script.
        return UUID(given.encode("ascii").decode())
    except ValueError as error:
        raise InvalidValueError("id", "should be a valid UUID") from error
