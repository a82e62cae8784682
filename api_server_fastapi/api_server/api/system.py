"""Liveness, the readiness report, the metrics and the version."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.routing import Match
from starlette.types import Scope

from api_server.api.dependencies import provide
from api_server.application import Application
from api_server.exceptions import InvalidValueError
from api_server.identity import Principal
from api_server.metrics import MEDIA_TYPE, Metrics
from api_server.readiness_pipeline import CheckStatus, ReadinessState
from api_server.services.health_check_service import HealthCheckService

LIVENESS_PATHS = ("/livez", "/ping")
READINESS_PATHS = ("/readyz", "/health-check", "/api/v1/health")
METRICS_PATH = "/metrics"
VERSION_PATH = "/version"
PROBE_PATHS = (*LIVENESS_PATHS, *READINESS_PATHS, METRICS_PATH)

DETAILS_SCOPE = "readiness:details"

_NOT_KEPT = {"Cache-Control": "no-store"}


class Liveness(BaseModel):
    """The process runs and its event loop turns."""

    status: Literal["alive"]


class CheckDto(BaseModel):
    """One check of a report."""

    name: str
    status: CheckStatus
    message: str
    is_critical: bool
    checked_at: datetime = Field(description="when it was answered; a `run_once` check keeps its success")
    duration_ms: float
    details: dict[str, Any] | None = Field(default=None, description=f"only for who has the scope `{DETAILS_SCOPE}`")


class StageDto(BaseModel):
    """One stage of a report."""

    name: str
    is_critical: bool
    duration_ms: float
    checks: list[CheckDto]


class ReadinessDto(BaseModel):
    """Whether the service can do its work, as of `age_s` seconds ago."""

    is_ready: bool = Field(description="whether requests should be sent here; the status is 200 if so, else 503")
    state: ReadinessState
    is_stale: bool = Field(description="the report is too old to be believed")
    is_draining: bool = Field(description="the process is about to leave")
    age_s: float | None
    duration_ms: float | None
    stages: list[StageDto]


class Version(BaseModel):
    """What runs here."""

    name: str
    version: str


Health = Annotated[HealthCheckService, provide(HealthCheckService)]


async def liveness(response: Response) -> Liveness:
    """Answer that the process is alive, without looking at anything else."""
    response.headers.update(_NOT_KEPT)
    return Liveness(status="alive")


async def _may_see_details(request: Request) -> bool:
    principal: Principal | None = getattr(request.state, "principal", None)
    return principal is not None and principal.has_scope(DETAILS_SCOPE)


MaySeeDetails = Annotated[bool, Depends(_may_see_details)]


async def readiness(
    request: Request,
    response: Response,
    health: Health,
    with_details: MaySeeDetails,
    *,
    force_rerun: Annotated[
        bool, Query(description="by POST: run the checks now, those too that run once, and share the run with others")
    ] = False,
) -> Any:  # noqa: ANN401 - ReadinessDto describes it
    """Report the readiness: 503 on error, while draining or where the report is stale, else 200.

    The report is kept fresh, so that asking for it runs no check. A POST needs an identity.
    """
    if force_rerun:
        if request.method != "POST":
            raise InvalidValueError("force_rerun", "is for POST, with an identity")
        await health.refresh(force_rerun=True)
    response.status_code = 200 if health.is_ready else 503
    response.headers.update(_NOT_KEPT)
    return health.as_json(with_details=with_details)


async def metrics(numbers: Annotated[Metrics, provide(Metrics)]) -> Response:
    """Give the numbers of all workers, for Prometheus."""
    return Response(await numbers.text(), media_type=MEDIA_TYPE, headers=_NOT_KEPT)


async def version(application: Annotated[Application, provide(Application)]) -> Version:
    """Tell the name and version of the application that is served."""
    return Version(name=application.name, version=application.version)


class _SystemRouter(APIRouter):
    """Knows by its path that a request is for somebody else, whom a dozen routes would otherwise keep waiting."""

    _paths = (*PROBE_PATHS, VERSION_PATH)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        # Whatever the root path is, which may or may not stand in front.
        return super().matches(scope) if scope["path"].endswith(self._paths) else (Match.NONE, {})


def system_router() -> APIRouter:
    """Route the system endpoints under all of their names."""
    router = _SystemRouter(tags=["system"])
    for path in LIVENESS_PATHS:
        _add(router, path, liveness, ("GET",), response_model=Liveness)
    for path in READINESS_PATHS:
        _add(
            router,
            path,
            readiness,
            ("GET", "POST"),
            response_model=ReadinessDto,
            response_model_exclude_unset=True,
            responses={503: {"model": ReadinessDto, "description": "Not ready: error, draining or stale"}},
        )
    text = {"text/plain": {"schema": {"type": "string"}}}
    _add(router, METRICS_PATH, metrics, ("GET",), response_class=Response, responses={200: {"content": text}})
    router.add_api_route(VERSION_PATH, version, methods=["GET"])
    return router


def _add(
    router: APIRouter,
    path: str,
    endpoint: Callable[..., object],
    methods: Sequence[str],
    **options: Any,  # noqa: ANN401 - FastAPI's
) -> None:
    """Route a path, with HEAD, which goes without saying.

    FastAPI gives all methods of a route one operation id, which is to be unique: so one route answers, and knows which
    methods are allowed, and each of the others documents one.
    """
    router.add_api_route(path, endpoint, methods=["HEAD", *methods], include_in_schema=False, **options)
    slug = path.strip("/").replace("/", "_").replace("-", "_")
    for method in methods:
        operation_id = f"{method.lower()}_{endpoint.__name__}_{slug}"
        router.add_api_route(path, endpoint, methods=[method], operation_id=operation_id, **options)
