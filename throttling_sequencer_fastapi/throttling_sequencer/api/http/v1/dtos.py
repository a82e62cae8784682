"""What travels over REST. Shapes only: the rules about values are the domain's."""

from pydantic import BaseModel, ConfigDict, Field


class Dto(BaseModel):
    """Strict: a number in quotes is no number, and an unknown key is an error."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class CoordinateDto(Dto):
    """A point of the field."""

    x: float
    y: float


class UnitDto(Dto):
    """A unit: speed per step towards its target, mass, and friction as the share of speed lost per step."""

    coordinate: CoordinateDto
    speed: float
    mass: float
    friction: float


class GameStateDto(Dto):
    """The units of both sides."""

    player_units: list[UnitDto]
    enemy_units: list[UnitDto]


class UnitGoalDto(Dto):
    """One step of a plan: where the unit is heading, and the throttle of this step."""

    coordinate: CoordinateDto
    throttle: int


class SearchQuery(BaseModel):
    """How to search, as query parameters; one that does not exist is an error, not overlooked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: str | None = Field(default=None, description="The path finder; by default the configured one.")
    seed: int | None = Field(
        default=None,
        description="Makes the search repeatable, as far as its generations end it and not its time. 0 to 2147483647.",
    )
