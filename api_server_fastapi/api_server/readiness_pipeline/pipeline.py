"""Stages of checks, run in order, and the report that they make together."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from api_server.readiness_pipeline.check import CheckStatus, ReadinessCheck, ReadinessCheckResult


class ReadinessState(StrEnum):
    """`error`: a critical stage failed; `degraded`: something else did; a warning is operational."""

    OPERATIONAL = "operational"
    DEGRADED = "degraded"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class ReadinessStage:
    """Checks that belong together and run at once; where a critical stage fails, later ones are not run."""

    name: str
    checks: Sequence[ReadinessCheck]
    is_critical: bool = False


@dataclass(frozen=True, slots=True)
class StageReport:
    """What the checks of a stage answered."""

    name: str
    is_critical: bool
    results: Sequence[ReadinessCheckResult]

    @property
    def has_failed(self) -> bool:
        return any(result.status is CheckStatus.FAILED for result in self.results)


@dataclass(frozen=True, slots=True)
class ReadinessReport:
    """What all stages that ran answered."""

    stages: Sequence[StageReport]

    @property
    def state(self) -> ReadinessState:
        failed = [stage for stage in self.stages if stage.has_failed]
        if any(stage.is_critical for stage in failed):
            return ReadinessState.ERROR
        return ReadinessState.DEGRADED if failed else ReadinessState.OPERATIONAL

    @property
    def failing(self) -> dict[str, str]:
        """The failed checks, each with its message and what operators should know beyond it."""
        return {
            result.name: "; ".join([result.message, *result.details.values()])
            for stage in self.stages
            for result in stage.results
            if result.status is CheckStatus.FAILED
        }


class ReadinessPipeline:
    """Runs its stages in order."""

    def __init__(self, stages: Sequence[ReadinessStage]) -> None:
        self._stages = tuple(stages)

    async def run(self) -> ReadinessReport:
        """Run every stage, up to and including the first critical one that fails."""
        reports: list[StageReport] = []
        for stage in self._stages:
            results = await asyncio.gather(*(check.run() for check in stage.checks))
            reports.append(StageReport(stage.name, stage.is_critical, results))
            if stage.is_critical and reports[-1].has_failed:
                break
        return ReadinessReport(tuple(reports))
