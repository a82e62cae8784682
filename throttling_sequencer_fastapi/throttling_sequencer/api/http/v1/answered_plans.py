"""Plans of many units as one answer."""

from collections.abc import Sequence

from fastapi import Response
from pydantic import TypeAdapter

from throttling_sequencer.api.http.v1.dtos import PlanDto
from throttling_sequencer.application.planned_units import PlannedUnit
from throttling_sequencer.application.turns import in_turns

_PLAN = TypeAdapter(PlanDto)


async def answered_plans(planned: Sequence[PlannedUnit]) -> Response:
    """Encode a `PlansDto` unit by unit, since FastAPI would hold the event loop for all of a thousand.

    All of them are encoded before the first byte is sent, so that nothing can fail when the status has been.
    """
    plans = [_encoded(unit) async for unit in in_turns(planned)]
    return Response(b'{"plans":[%b]}' % b",".join(plans), media_type="application/json")


def _encoded(unit: PlannedUnit) -> bytes:
    return _PLAN.dump_json(_PLAN.validate_python(unit, from_attributes=True))
