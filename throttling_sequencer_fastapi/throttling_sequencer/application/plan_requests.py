"""What was asked, as a text: one for all requests that mean the same, whichever the face they came by."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from throttling_sequencer.application.turns import in_turns
from throttling_sequencer.domain.game import Coordinate, GameState, Unit
from throttling_sequencer.domain.stored_plan import PlanRequest


def plain(state: GameState) -> GameState:
    """Return the same state with each number as a float, and no negative zero among them.

    The faces bring integers where a client wrote them, and PostgreSQL's JSON knows no negative zero; no plan does.
    """
    return replace(
        state,
        player_units=tuple(map(_plain_unit, state.player_units)),
        enemy_units=tuple(map(_plain_unit, state.enemy_units)),
    )


async def request_text(request: PlanRequest) -> str:
    """Write a request as the JSON that REST takes, with every field there and in one order.

    What is unset and what is explicitly null is the same.
    """
    state = request.game_state
    parts = {
        "budget_ms": json.dumps(request.budget_ms),
        "enemy_units": await _texts(state.enemy_units),
        "player_units": await _texts(state.player_units),
        "seed": json.dumps(request.seed),
        "strategy": json.dumps(request.strategy),
        "targets": json.dumps(request.targets, separators=(",", ":")),
    }
    return "{" + ",".join(f'"{name}":{text}' for name, text in parts.items()) + "}"


async def request_hash(request: PlanRequest) -> bytes:
    """Return what tells requests apart: the SHA-256 of the text."""
    return sha256((await request_text(request)).encode()).digest()


async def request_of(text: str) -> PlanRequest:
    """Read what `request_text` wrote, however its storage spells it."""
    document = json.loads(text)
    targets = document["targets"]
    return PlanRequest(
        game_state=GameState(await _units(document["player_units"]), await _units(document["enemy_units"])),
        strategy=document["strategy"],
        budget_ms=document["budget_ms"],
        seed=document["seed"],
        targets=None if targets is None else tuple(targets),
    )


async def _texts(units: Sequence[Unit]) -> str:
    return "[" + ",".join([text async for text in in_turns(map(_text, units))]) + "]"


def _text(unit: Unit) -> str:
    document = {
        "coordinate": {"x": unit.coordinate.x, "y": unit.coordinate.y},
        "friction": unit.friction,
        "mass": unit.mass,
        "speed": unit.speed,
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


async def _units(documents: Iterable[Mapping[str, Any]]) -> tuple[Unit, ...]:
    return tuple([unit async for unit in in_turns(map(_unit, documents))])


def _unit(document: Mapping[str, Any]) -> Unit:
    coordinate = document["coordinate"]
    return Unit(
        Coordinate(float(coordinate["x"]), float(coordinate["y"])),
        float(document["speed"]),
        float(document["mass"]),
        float(document["friction"]),
    )


def _plain_unit(unit: Unit) -> Unit:
    # A negative zero and zero are zero.
    return Unit(
        Coordinate(unit.coordinate.x + 0.0, unit.coordinate.y + 0.0),
        unit.speed + 0.0,
        unit.mass + 0.0,
        unit.friction + 0.0,
    )
