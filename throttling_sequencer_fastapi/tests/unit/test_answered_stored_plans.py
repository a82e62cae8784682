"""A stored plan is written piece by piece, as the documented shape has it."""

import json
import re

import pytest
from plan_cases import large_plan, stored_plan, unit, unit_plan
from throttling_sequencer.api.http.v1.answered_plans import encoded_stored_plan
from throttling_sequencer.api.http.v1.dtos import StoredPlanDto
from throttling_sequencer.api.http.v1.idempotency_key import written
from throttling_sequencer.application.plan_requests import plain, request_hash, request_of, request_text
from throttling_sequencer.domain.game import GameState
from throttling_sequencer.domain.stored_plan import PlanRequest, StoredPlan

PLANS = {
    "plain": stored_plan(1),
    "with everything": stored_plan(
        1,
        key='a "key"\\',
        seed=None,
        units=(unit_plan(0, lower_bound=None), unit_plan(1, ())),
        request=PlanRequest(
            game_state=GameState((unit(), unit(1.5)), (unit(3.0),)),
            strategy="ran\u2028dom",
            budget_ms=70,
            seed=0,
            targets=(0, 0),
        ),
    ),
    "of a thousand units": large_plan(1),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
async def test_a_plan_has_the_documented_shape(plan: StoredPlan) -> None:
    """What watches every test refuses a turn of the event loop of more than 100 ms."""
    encoded = await encoded_stored_plan(plan)
    read = StoredPlanDto.model_validate_json(encoded)
    assert (read.id, read.idempotency_key, read.seed, read.created_at) == (
        plan.plan_id,
        plan.key,
        plan.seed,
        plan.created_at,
    )
    assert [one.throttles for one in read.plans] == [one.throttles for one in plan.units]
    assert [one.gap for one in read.plans] == [one.gap for one in plan.units]
    assert set(json.loads(encoded)) == set(StoredPlanDto.model_fields)
    state = plan.request.game_state
    assert [one.coordinate.x for one in read.request.player_units] == [one.coordinate.x for one in state.player_units]
    assert read.request.targets == (None if plan.request.targets is None else list(plan.request.targets))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
async def test_a_request_is_read_as_it_was_written(plan: StoredPlan) -> None:
    assert await request_of(await request_text(plan.request)) == plan.request


async def test_a_request_is_the_same_however_its_storage_spells_numbers() -> None:
    request = PlanRequest(game_state=GameState((unit(),), (unit(5000.0),)))
    text = re.sub(r"\.0(?=[,}])", "", await request_text(request))
    assert await request_text(await request_of(text)) == await request_text(request) != text


async def test_the_hash_of_a_request_is_its_own_for_good() -> None:
    """What was kept by an earlier release is found by this one."""
    request = PlanRequest(game_state=plain(GameState((unit(-0.0, 3),), (unit(1e6),))), strategy="random", targets=(0,))
    assert await request_text(request) == (
        '{"budget_ms":null,"enemy_units":[{"coordinate":{"x":1000000.0,"y":0.0},"friction":0.01,"mass":10.0,'
        '"speed":0.0}],"player_units":[{"coordinate":{"x":0.0,"y":3.0},"friction":0.01,"mass":10.0,"speed":0.0}],'
        '"seed":null,"strategy":"random","targets":[0]}'
    )
    assert (await request_hash(request)).hex() == "dd69ab7fd42e98069c483b00b09e53c17b0fa48bac29f1302e6d4c1c598fa2fb"


@pytest.mark.parametrize(
    ("key", "header"), [("a b", "a b"), ('"', r'"\""'), (" a", '" a"'), ("a ", '"a "'), ("a\\", "a\\")]
)
def test_a_key_is_written_as_it_would_be_read(key: str, header: str) -> None:
    assert written(key) == header
