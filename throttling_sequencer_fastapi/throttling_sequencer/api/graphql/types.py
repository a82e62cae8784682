"""What travels over GraphQL. Shapes only: the rules about values are the domain's."""

from collections.abc import Mapping
from typing import Annotated, Any

import strawberry
from api_server.graphql.columns import FloatColumn, IntColumn
from strawberry.types.base import get_object_definition

from throttling_sequencer.application.planned_units import PlanDetail

StrategyArgument = Annotated[
    str | None, strawberry.argument(description="The path finder; by default the configured one.")
]
SeedArgument = Annotated[
    int | None,
    strawberry.argument(description="Makes the search repeatable, as far as its generations end it and not its time."),
]
BudgetArgument = Annotated[
    int | None,
    strawberry.argument(description="Milliseconds of search for the whole request; by default the configured ones."),
]
TargetsArgument = Annotated[
    list[int] | None,
    strawberry.argument(description="The index of an enemy unit for each player unit; by default the nearest."),
]
IncludeArgument = Annotated[
    list[PlanDetail] | None, strawberry.argument(description="More to be told of each plan; null without it.")
]

strawberry.enum(PlanDetail, description="What a plan tells only where it is asked for.")


@strawberry.input(description="A point of the field.")
class CoordinateInputType:
    """A point, as given."""

    x: float
    y: float


@strawberry.input(description="Speed per step towards the target, mass, and the share of speed lost per step.")
class UnitInputType:
    """A unit, as given."""

    coordinate: CoordinateInputType
    speed: float
    mass: float
    friction: float


def _unit(kind: type, given: Mapping[str, Any], context: object) -> UnitInputType:  # noqa: ARG001 - Strawberry's signature
    return UnitInputType(**{**given, "coordinate": CoordinateInputType(**given["coordinate"])})


# Strawberry asks each field of each unit about its type; for a thousand units that would hold the event loop.
get_object_definition(UnitInputType, strict=True).from_input = _unit


@strawberry.input(description="The units of both sides.")
class GameStateInputType:
    """A game state, as given."""

    player_units: list[UnitInputType]
    enemy_units: list[UnitInputType]


@strawberry.type(description="A point of the field.")
class CoordinateType:
    """A point, as answered."""

    x: float
    y: float


@strawberry.type(description="One step of a plan: where the unit is heading, and the throttle of this step.")
class UnitGoalType:
    """A goal, as answered."""

    coordinate: CoordinateType
    throttle: int


@strawberry.type(name="ScoreParts", description="The weighted terms of a score, which is their sum.")
class ScorePartsType:
    """What a score consists of, as answered."""

    distance: float
    speed: float
    length: float
    nonzero: float


@strawberry.type(name="CoordinateColumns", description="Points of the field, an axis at a time.")
class CoordinateColumnsType:
    """Points, as answered."""

    x: FloatColumn
    y: FloatColumn


@strawberry.type(
    name="Trajectory", description="The speed, the distance covered and the position of the unit after each step."
)
class TrajectoryType:
    """The way of a unit, as answered."""

    speeds: FloatColumn
    distances: FloatColumn
    coordinates: CoordinateColumnsType


@strawberry.type(name="UnitPlan", description="The plan of one player unit, and what explains it.")
class UnitPlanType:
    """The plan of a unit, as answered."""

    unit: int = strawberry.field(description="The index of the player unit.")
    target: int = strawberry.field(description="The index of the enemy unit that it heads for.")
    strategy: str
    throttles: IntColumn = strawberry.field(description="The throttle of each step.")
    score: float = strawberry.field(description="What the plan costs; lower is better.")
    score_parts: ScorePartsType
    lower_bound: float | None = strawberry.field(description="No plan can score less; null where nothing was proven.")
    gap: float | None = strawberry.field(description="How far the score is above the lower bound.")
    final_speed: float
    distance_covered: float
    generations: int = strawberry.field(description="How many the search ran.")
    seed: int | None = strawberry.field(description="What repeats the search; null where it has no randomness.")
    elapsed_ms: float = strawberry.field(description="Milliseconds that the search took.")
    trajectory: TrajectoryType | None = strawberry.field(description="Only where it was asked for.")
