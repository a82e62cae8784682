"""What travels over REST. Shapes only: the rules about values are the domain's."""

from pydantic import BaseModel, ConfigDict


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
