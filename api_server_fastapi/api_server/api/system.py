"""Liveness, the readiness report and the version."""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api_server.api.dependencies import provide
from api_server.application import Application
from api_server.readiness_pipeline import CheckStatus, ReadinessState
from api_server.services.health_check_service import HealthCheckService

LIVENESS_PATHS = ("/livez", "/ping")
READINESS_PATHS = ("/readyz", "/api/v1/health")
PUBLIC_PATHS = (*LIVENESS_PATHS, *READINESS_PATHS)


class Liveness(BaseModel):
    """The process runs and its event loop turns."""

    status: str = "alive"


class CheckDto(BaseModel):
    """One check of a report."""

    name: str
    status: CheckStatus
    message: str
    duration_ms: float


class StageDto(BaseModel):
    """One stage of a report."""

    name: str
    is_critical: bool
    checks: list[CheckDto]


class ReadinessDto(BaseModel):
    """Whether the service can do its work, as of `age_s` seconds ago."""

    state: ReadinessState
    is_stale: bool = Field(description="the report is too old to be believed")
    age_s: float
    stages: list[StageDto]


class Version(BaseModel):
    """What runs here."""

    name: str
    version: str


async def liveness() -> Liveness:
    """Answer that the process is alive, without looking at anything else."""
    return Liveness()


async def readiness(
    response: Response, service: Annotated[HealthCheckService, provide(HealthCheckService)]
) -> ReadinessDto:
    """Report the newest readiness: 503 where a critical stage failed or the report is stale, else 200."""
    report = service.report
    if report.state is ReadinessState.ERROR or service.is_stale:
        response.status_code = 503
    return ReadinessDto(
        state=report.state,
        is_stale=service.is_stale,
        age_s=round(service.age, 3),
        stages=[
            StageDto(
                name=stage.name,
                is_critical=stage.is_critical,
                checks=[
                    CheckDto(
                        name=result.name, status=result.status, message=result.message, duration_ms=result.duration_ms
                    )
                    for result in stage.results
                ],
            )
            for stage in report.stages
        ],
    )


async def version(application: Annotated[Application, provide(Application)]) -> Version:
    """Tell the name and version of the application that is served."""
    return Version(name=application.name, version=application.version)


def system_router() -> APIRouter:
    """Route the system endpoints under all of their names."""
    router = APIRouter(tags=["system"])
    for path in LIVENESS_PATHS:
        router.add_api_route(path, liveness, methods=["GET", "HEAD"], operation_id=f"liveness_{path.strip('/')}")
    for path in READINESS_PATHS:
        router.add_api_route(
            path,
            readiness,
            methods=["GET", "HEAD"],
            operation_id=f"readiness_{path.strip('/').replace('/', '_')}",
            responses={503: {"model": ReadinessDto, "description": "Not ready"}},
        )
    router.add_api_route("/version", version, methods=["GET"])
    return router
