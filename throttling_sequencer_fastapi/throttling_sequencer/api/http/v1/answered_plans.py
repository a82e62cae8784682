"""Plans of many units as one answer."""

from collections.abc import Sequence

from fastapi import Response
from pydantic import TypeAdapter

from throttling_sequencer.api.http.v1.dtos import PlanDto, StoredPlanHeadDto, StoredUnitPlanDto
from throttling_sequencer.application.plan_requests import request_text
from throttling_sequencer.application.planned_units import PlannedUnit
from throttling_sequencer.application.turns import in_turns
from throttling_sequencer.domain.stored_plan import StoredPlan, StoredUnitPlan

_PLAN = TypeAdapter(PlanDto)
_STORED_UNIT_PLAN = TypeAdapter(StoredUnitPlanDto)


async def answered_plans(planned: Sequence[PlannedUnit]) -> Response:
    """Encode a `PlansDto` unit by unit, since FastAPI would hold the event loop for all of a thousand.

    All of them are encoded before the first byte is sent, so that nothing can fail when the status has been.
    """
    plans = [_encoded(unit) async for unit in in_turns(planned)]
    return Response(b'{"plans":[%b]}' % b",".join(plans), media_type="application/json")


def _encoded(unit: PlannedUnit) -> bytes:
    return _PLAN.dump_json(_PLAN.validate_python(unit, from_attributes=True))


async def encoded_stored_plan(plan: StoredPlan) -> bytes:
    """Encode a `StoredPlanDto` as above."""
    head = StoredPlanHeadDto(
        id=plan.plan_id,
        owner_id=plan.owner_id,
        idempotency_key=plan.key,
        strategy=plan.strategy,
        seed=plan.seed,
        created_at=plan.created_at,
    )
    request = await request_text(plan.request)
    units = [encoded async for encoded in in_turns(map(_encoded_unit, plan.units))]
    return b'%b,"request":%b,"plans":[%b]}' % (
        head.model_dump_json().encode()[:-1],
        request.encode(),
        b",".join(units),
    )


def _encoded_unit(unit: StoredUnitPlan) -> bytes:
    return _STORED_UNIT_PLAN.dump_json(_STORED_UNIT_PLAN.validate_python(unit, from_attributes=True))
