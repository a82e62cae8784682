"""What a run of the pipeline found, and the state that it adds up to."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from api_server.readiness_pipeline.check import ReadinessCheckResult


class ReadinessState(StrEnum):
    """`error`: something critical failed; `degraded`: something else did; a warning is operational."""

    OPERATIONAL = "operational"
    DEGRADED = "degraded"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class StageReport:
    """What the checks of a stage answered."""

    name: str
    is_critical: bool
    results: Sequence[ReadinessCheckResult]
    duration_ms: float = 0.0

    @property
    def has_failed(self) -> bool:
        return bool(self.failed)

    @property
    def has_failed_critically(self) -> bool:
        return any(self.is_critical or result.is_critical for result in self.failed)

    @property
    def failed(self) -> list[ReadinessCheckResult]:
        return [result for result in self.results if result.has_failed]


@dataclass(frozen=True, slots=True)
class ReadinessReport:
    """What all stages answered, as of the moment in which the first check was asked."""

    stages: Sequence[StageReport]
    duration_ms: float = 0.0
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """Seconds since the report was begun."""
        return time.monotonic() - self.started

    @property
    def state(self) -> ReadinessState:
        if any(stage.has_failed_critically for stage in self.stages):
            return ReadinessState.ERROR
        if any(stage.has_failed for stage in self.stages):
            return ReadinessState.DEGRADED
        return ReadinessState.OPERATIONAL

    @property
    def is_settled(self) -> bool:
        """Whether nothing fails, nor has begun to."""
        is_damped = any(result.is_damped for stage in self.stages for result in stage.results)
        return self.state is ReadinessState.OPERATIONAL and not is_damped

    @property
    def failing(self) -> dict[str, str]:
        """The failed checks, each with its message and what operators should know beyond it."""
        return {
            result.name: "; ".join([result.message, *map(str, result.details.values())])
            for stage in self.stages
            for result in stage.failed
        }


def report_as_json(report: ReadinessReport, *, with_details: bool) -> list[dict[str, object]]:
    """Return the stages of a report for a body in JSON; `details` only where whoever asks may see them."""
    return [
        {
            "name": stage.name,
            "is_critical": stage.is_critical,
            "duration_ms": stage.duration_ms,
            "checks": [_check_as_json(result, with_details=with_details) for result in stage.results],
        }
        for stage in report.stages
    ]


def _check_as_json(result: ReadinessCheckResult, *, with_details: bool) -> dict[str, object]:
    told: dict[str, object] = {
        "name": result.name,
        "status": str(result.status),
        "message": result.message,
        "is_critical": result.is_critical,
        "checked_at": result.checked_at.isoformat(timespec="milliseconds"),
        "duration_ms": result.duration_ms,
    }
    return {**told, "details": dict(result.details)} if with_details else told
