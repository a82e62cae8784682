"""A stage-based readiness pipeline. It knows no framework, no database and no container."""

from api_server.readiness_pipeline.check import CheckStatus, ReadinessCheck, ReadinessCheckResult
from api_server.readiness_pipeline.pipeline import (
    ReadinessPipeline,
    ReadinessReport,
    ReadinessStage,
    ReadinessState,
    StageReport,
)

__all__ = [
    "CheckStatus",
    "ReadinessCheck",
    "ReadinessCheckResult",
    "ReadinessPipeline",
    "ReadinessReport",
    "ReadinessStage",
    "ReadinessState",
    "StageReport",
]
