"""Stored plans for tests, by a number each."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from throttling_sequencer.domain.game import Coordinate, GameState, Unit
from throttling_sequencer.domain.navigation import ScoreParts
from throttling_sequencer.domain.stored_plan import PlanRequest, StoredPlan, StoredUnitPlan


def unit(x: float = 0.0, y: float = 0.0, speed: float = 0.0, mass: float = 10.0, friction: float = 0.01) -> Unit:
    return Unit(Coordinate(x, y), speed, mass, friction)


def unit_plan(place: int = 0, throttles: tuple[int, ...] = (238, 0, 0), **values: Any) -> StoredUnitPlan:
    fields = {
        "unit": place,
        "target": 0,
        "throttles": throttles,
        "score_parts": ScoreParts(1.5, 0.0, 0.03, 0.01),
        "lower_bound": 1.25,
        "final_speed": 4.75,
        "distance_covered": 4998.5,
    }
    return StoredUnitPlan(**{**fields, **values})


def stored_plan(number: int, owner_id: str = "ann", **values: Any) -> StoredPlan:
    """Make the plan whose id is the number, with a key of its own."""
    fields = {
        "plan_id": UUID(int=number),
        "owner_id": owner_id,
        "key": f"key-{number}",
        "request_hash": bytes([number % 256]) * 32,
        "request": PlanRequest(game_state=GameState((unit(),), (unit(5000.0),))),
        "strategy": "genetic",
        "seed": 7,
        "units": (unit_plan(),),
        "created_at": datetime(2026, 11, 27, 9, 30, 0, 123456, tzinfo=UTC),
    }
    return StoredPlan(**{**fields, **values})


def large_plan(number: int, units: int = 1000, steps: int = 100, **values: Any) -> StoredPlan:
    """Make a plan of many units."""
    state = GameState(tuple(unit(float(place)) for place in range(units)), tuple([unit(1e6 / 3)] * units))
    throttles = tuple(step % 301 for step in range(steps))
    plans = tuple(unit_plan(place, throttles, target=place) for place in range(units))
    return stored_plan(number, request=PlanRequest(game_state=state), units=plans, **values)
