"""The sequencer as an application of the foundation, and uvicorn's factory for it."""

from collections.abc import AsyncGenerator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from api_server.application import Application
from api_server.events import EventsMayBeMissed, PresetChanged

from throttling_sequencer.api.events import events_may_be_missed, preset_changed
from throttling_sequencer.api.presets import PRESET_KINDS
from throttling_sequencer.application.owners import NotAdminError
from throttling_sequencer.application.planning import (
    AllowanceSpentError,
    LaneBrokenError,
    LaneFullError,
    PlanningTimedOutError,
    ShareTakenError,
)
from throttling_sequencer.core.database_config import PiccoloDBConfig
from throttling_sequencer.core.lab_environment import lab_environment
from throttling_sequencer.core.settings import SequencerSettings
from throttling_sequencer.di.services import adjust_registry
from throttling_sequencer.domain.errors import (
    InvalidValueError,
    OutcomeUnknownError,
    PlanNotFoundError,
    StorageUnavailableError,
)

if TYPE_CHECKING:
    from api_server.database.migration_backend import MigrationBackend
    from api_server.findings import Finding
    from api_server.graphql.part import GraphQLPart
    from api_server.readiness_pipeline import ReadinessStage
    from api_server.services.registry import ServiceRegistry
    from fastapi import APIRouter, FastAPI


def _lifespan(app: "FastAPI", registry: "ServiceRegistry") -> AsyncGenerator[None, None]:
    from throttling_sequencer.di.fastapi_lifespan import di_lifespan  # noqa: PLC0415 - a command line serves nothing

    return di_lifespan(app, registry)


def _routers() -> "Sequence[APIRouter]":
    from throttling_sequencer.api.http.v1 import scenarios, stored_plans, throttle  # noqa: PLC0415 - a command line needs no face

    routers = (throttle.router, stored_plans.router)
    return (*routers, scenarios.router) if _uses_database() else routers


def _graphql() -> "GraphQLPart":
    from throttling_sequencer.api.graphql.part import sequencer_part  # noqa: PLC0415 - a command line needs no face

    return sequencer_part(with_scenarios=_uses_database())


def _uses_database() -> bool:
    return SequencerSettings().persistence == "piccolo"


def _database_url() -> str | None:
    return PiccoloDBConfig().url if _uses_database() else None


def _migrations() -> "Sequence[MigrationBackend]":
    from throttling_sequencer.infrastructure.db.piccolo_migrations import (  # noqa: PLC0415 - few commands migrate
        PiccoloMigrations,
    )

    url = SEQUENCER.primary_url()
    return (PiccoloMigrations(url),) if url and _uses_database() else ()


def _stages() -> "Sequence[ReadinessStage]":
    from throttling_sequencer.di.readiness import readiness_stages  # noqa: PLC0415 - few commands check

    return readiness_stages()


def _findings() -> "Sequence[Finding]":
    from throttling_sequencer.di.findings import findings  # noqa: PLC0415 - one command asks

    return findings()


SEQUENCER = Application(
    name="throttling_sequencer",
    version=version("throttling-sequencer"),
    register=adjust_registry,
    lifespan=_lifespan,
    routers=_routers,
    graphql=_graphql,
    stages=_stages,
    migrations=_migrations,
    uses_database=_uses_database,
    database_url=_database_url,
    findings=_findings,
    lab_environment=lab_environment,
    event_handlers={PresetChanged: (preset_changed,), EventsMayBeMissed: (events_may_be_missed,)},
    preset_kinds=PRESET_KINDS,
    errors={
        AllowanceSpentError: 429,
        ShareTakenError: 429,
        InvalidValueError: 422,
        LaneFullError: 503,
        LaneBrokenError: 503,
        NotAdminError: 403,
        OutcomeUnknownError: 503,
        PlanNotFoundError: 404,
        PlanningTimedOutError: 504,
        StorageUnavailableError: 503,
    },
    settings=(SequencerSettings, PiccoloDBConfig),
)


def create_app() -> "FastAPI":
    """Make the app that uvicorn serves."""
    from api_server.app import create_app as create  # noqa: PLC0415 - a command line serves nothing

    return create(SEQUENCER)
