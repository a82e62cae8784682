"""What travels over REST. Shapes only: the rules about values are the domain's."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from api_server.validation import few_fields
from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator

from throttling_sequencer.application.stored_plans import MOST_IN_PAGE
from throttling_sequencer.core.settings import SequencerSettings

# The domain counts units too; up to so many, it takes no longer to validate them than to ask for the limit.
_SOON_READ = 200


class Dto(BaseModel):
    """Strict: a number in quotes is no number, and an unknown key is an error."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class CoordinateDto(Dto):
    """A point of the field."""

    x: float
    y: float


class UnitDto(Dto):
    """A unit: speed per step towards its target, mass, and friction as the share of speed lost per step."""

    coordinate: Annotated[CoordinateDto, BeforeValidator(few_fields)]
    speed: float
    mass: float
    friction: float


def _few_units(given: Any) -> Any:  # noqa: ANN401 - it is not validated yet
    """Refuse units that are too many before each of them is looked at."""
    if isinstance(given, list) and len(given) > _SOON_READ:
        most = SequencerSettings().max_units
        if len(given) > most:
            raise ValueError(f"should hold at most {most} units")
    return given


# A million bytes hold hundreds of thousands of units that are none: the first of them says enough.
Units = Annotated[list[Annotated[UnitDto, BeforeValidator(few_fields)]], FailFast(), BeforeValidator(_few_units)]


class GameStateDto(Dto):
    """The units of both sides."""

    player_units: Units
    enemy_units: Units

    _is_small = model_validator(mode="before")(few_fields)


class UnitGoalDto(Dto):
    """One step of a plan: where the unit is heading, and the throttle of this step."""

    coordinate: CoordinateDto
    throttle: int


class SearchOptionsDto(Dto):
    """How to search a plan for each player unit."""

    _has_few_fields = model_validator(mode="before")(few_fields)

    strategy: str | None = Field(default=None, description="The path finder; by default the configured one.")
    budget_ms: int | None = Field(
        default=None, description="Milliseconds of search for the whole request; by default the configured ones."
    )
    seed: int | None = Field(
        default=None,
        description="Makes the search repeatable, as far as its generations end it and not its time. 0 to 2147483647.",
    )
    targets: list[int] | None = Field(
        default=None,
        fail_fast=True,
        description="The index of an enemy unit for each player unit; by default the nearest.",
    )


class PlanOptionsDto(SearchOptionsDto):
    """How to plan for each player unit."""

    include: list[str] = Field(
        default_factory=list, fail_fast=True, description="More to be told of each plan: `trajectory`."
    )


class PlanRequestDto(GameStateDto, PlanOptionsDto):
    """The units of both sides, and how to plan for each of the players'."""


class StoredPlanRequestDto(GameStateDto, SearchOptionsDto):
    """The units of both sides, and how to search a plan for each of the players'."""


class ScorePartsDto(Dto):
    """The weighted terms of a score, which is their sum."""

    distance: float
    speed: float
    length: float
    nonzero: float


class CoordinateColumnsDto(Dto):
    """Points of the field, an axis at a time."""

    x: tuple[float, ...]
    y: tuple[float, ...]


class TrajectoryDto(Dto):
    """The speed, the distance covered and the position of the unit after each step."""

    speeds: tuple[float, ...]
    distances: tuple[float, ...]
    coordinates: CoordinateColumnsDto


class PlanDto(Dto):
    """The plan of one player unit, and what explains it."""

    unit: int = Field(description="The index of the player unit.")
    target: int = Field(description="The index of the enemy unit that it heads for.")
    strategy: str
    throttles: tuple[int, ...] = Field(description="The throttle of each step.")
    score: float = Field(description="What the plan costs; lower is better.")
    score_parts: ScorePartsDto
    lower_bound: float | None = Field(description="No plan can score less; null where nothing was proven.")
    gap: float | None = Field(description="How far the score is above the lower bound.")
    final_speed: float
    distance_covered: float
    generations: int = Field(description="How many the search ran.")
    seed: int | None = Field(description="What repeats the search; null where it has no randomness.")
    elapsed_ms: float = Field(description="Milliseconds that the search took.")
    trajectory: TrajectoryDto | None = Field(
        default=None, exclude_if=lambda trajectory: trajectory is None, description="Only where it was asked for."
    )


class PlansDto(Dto):
    """A plan for each player unit, in their order."""

    plans: list[PlanDto]


class StoredUnitPlanDto(Dto):
    """The plan of one player unit, and what explains it."""

    unit: int = Field(description="The index of the player unit.")
    target: int = Field(description="The index of the enemy unit that it heads for.")
    throttles: tuple[int, ...] = Field(description="The throttle of each step.")
    score: float = Field(description="What the plan costs; lower is better.")
    score_parts: ScorePartsDto
    lower_bound: float | None = Field(description="No plan can score less; null where nothing was proven.")
    gap: float | None = Field(description="How far the score is above the lower bound.")
    final_speed: float
    distance_covered: float


class StoredPlanHeadDto(Dto):
    """A plan that is kept, without what is in it."""

    id: UUID = Field(description="What it is asked for by; later plans have later ids.")
    owner_id: str = Field(description="Who had it stored.")
    idempotency_key: str = Field(description="Whoever asks again by this key gets this plan.")
    strategy: str = Field(description="The path finder that made it.")
    seed: int | None = Field(description="What repeats the search; null where it has no randomness.")
    created_at: datetime


class StoredPlanDto(StoredPlanHeadDto):
    """A plan that is kept: what was asked, and a plan for each player unit, in their order."""

    request: StoredPlanRequestDto = Field(description="What was asked; null is what was left to the service.")
    plans: list[StoredUnitPlanDto]


class StoredPlanPageDto(Dto):
    """Some plans, newest first."""

    items: list[StoredPlanDto]
    next_cursor: str | None = Field(description="The `cursor` of the next page; null where there are no more.")


class StoredPlanQuery(BaseModel):
    """Which plans are listed; a parameter that does not exist is an error, not overlooked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(default=20, ge=1, le=MOST_IN_PAGE, description="How many a page holds.")
    cursor: str | None = Field(default=None, description="The `next_cursor` of an earlier page.")
    owner: str | None = Field(
        default=None, description="Whose, `*` for everybody's; by default your own. Others' need the scope `admin`."
    )


class SearchQuery(BaseModel):
    """How to search, as query parameters; one that does not exist is an error, not overlooked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: str | None = Field(default=None, description="The path finder; by default the configured one.")
    seed: int | None = Field(
        default=None,
        description="Makes the search repeatable, as far as its generations end it and not its time. 0 to 2147483647.",
    )
