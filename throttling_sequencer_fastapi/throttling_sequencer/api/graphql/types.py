"""What travels over GraphQL. Shapes only: the rules about values are the domain's."""

from typing import Annotated

import strawberry

StrategyArgument = Annotated[
    str | None, strawberry.argument(description="The path finder; by default the configured one.")
]
SeedArgument = Annotated[
    int | None,
    strawberry.argument(description="Makes the search repeatable, as far as its generations end it and not its time."),
]


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
