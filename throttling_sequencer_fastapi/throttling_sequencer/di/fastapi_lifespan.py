"""What runs for as long as the server does."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

from api_server.application import Application
from api_server.metrics import Metrics
from api_server.services.migrations import migrations_of
from api_server.services.registry import ServiceRegistry
from fastapi import FastAPI

from throttling_sequencer.application.configuration import CurrentConfiguration
from throttling_sequencer.application.planning import PlanningAllowance
from throttling_sequencer.application.request_log import ForgetOldGqlRequests, RecordGqlRequest
from throttling_sequencer.core.database_config import PiccoloDBConfig
from throttling_sequencer.di.measured import measure_sequencer
from throttling_sequencer.di.migrations import migrating
from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import (
    DB,
    start_pool,
    stop_pool,
)
from throttling_sequencer.infrastructure.lane import ProcessLane
from throttling_sequencer.infrastructure.writer_metrics import MeasuredWriterEvents


async def di_lifespan(app: FastAPI, registry: ServiceRegistry) -> AsyncGenerator[None, None]:  # noqa: ARG001 - the seam's signature
    """Start the resources behind the services that `adjust_registry` registered, and stop them at the end.

    Undecorated: `create_app` composes it with the foundation's own and hands both one registry.
    """
    async with AsyncExitStack() as running:
        application = registry.get(Application)
        if application.uses_database():
            running.push_async_callback(stop_pool)
            DB.events = MeasuredWriterEvents(registry.get(Metrics))
            await start_pool()
        if PiccoloDBConfig().run_migrations and (url := application.primary_url()):
            await running.enter_async_context(migrating(migrations_of(application), url))
        await running.enter_async_context(registry.get(ForgetOldGqlRequests).pruning())
        await running.enter_async_context(registry.get(RecordGqlRequest).writing())
        await running.enter_async_context(registry.get(CurrentConfiguration).kept_fresh())
        # What it counts with takes long to import: no request is to wait for that.
        registry.get(PlanningAllowance)
        lane = registry.get(ProcessLane)
        running.push_async_callback(lane.close)
        await lane.start()
        measure_sequencer(registry)
        yield
