"""A control: the sequencer, with what looks like the obvious way to keep a plan once.

`ON CONFLICT … DO NOTHING` doubles nothing, and passes every test in which the standby is there. But where the row is
there already, it writes nothing, and a commit that wrote nothing waits for no standby: a second try acknowledges what
only the primary has. With that primary it is lost.
"""

from dataclasses import replace
from uuid import UUID

import asyncpg
from api_server.services.registry import ServiceRegistry
from throttling_sequencer.app import SEQUENCER
from throttling_sequencer.di.services import adjust_registry
from throttling_sequencer.domain.stored_plan import AsyncStoredPlanRepository, StoredPlan
from throttling_sequencer.infrastructure.db.retrying import retried
from throttling_sequencer.infrastructure.db.unit_of_work import unit_of_work
from throttling_sequencer.infrastructure.repositories import piccolo_stored_plan_repository as piccolo

_ADD = piccolo._ADD.replace("DO UPDATE SET attempts = plan.attempts + 1", "DO NOTHING")  # noqa: SLF001 - all but this
_FIND = "SELECT * FROM throttling_sequencer.plan WHERE owner_id = $1 AND key = $2"


class DoNothingRepository(piccolo.PiccoloStoredPlanRepository):
    """Keeps a plan unless it is there, and looks whether it is there, without writing anything."""

    async def add(self, plan: StoredPlan, *, within_s: float) -> StoredPlan:
        row = await piccolo._row(plan)  # noqa: SLF001 - the same row

        async def attempt(seconds: float) -> asyncpg.Record:
            async with unit_of_work(seconds) as connection:
                written = await connection.fetchrow(_ADD, *row)
                return written or await connection.fetchrow(_FIND, plan.owner_id, plan.key)

        kept: UUID = (await retried(attempt, within_s=within_s))["id"]
        return replace(plan, plan_id=kept)

    async def find_again(self, owner_id: str, key: str, *, within_s: float) -> StoredPlan | None:
        async def attempt(seconds: float) -> asyncpg.Record | None:
            async with unit_of_work(seconds) as connection:
                return await connection.fetchrow(_FIND, owner_id, key)

        found = await retried(attempt, within_s=within_s)
        return None if found is None else await piccolo._plan(found)  # noqa: SLF001 - the same plan


def _register(registry: ServiceRegistry) -> None:
    adjust_registry(registry)
    registry.register_singleton(AsyncStoredPlanRepository, DoNothingRepository)


DO_NOTHING = replace(SEQUENCER, register=_register)
