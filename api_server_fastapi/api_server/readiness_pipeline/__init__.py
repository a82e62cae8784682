"""A stage-based readiness pipeline. It knows no framework, no database and no container."""

from api_server.readiness_pipeline.check import CheckStatus, ReadinessCheck, ReadinessCheckResult
from api_server.readiness_pipeline.damping import Damping
from api_server.readiness_pipeline.monitor import ReadinessMonitor
from api_server.readiness_pipeline.pipeline import ReadinessPipeline, ReadinessPipelineBuilder, ReadinessStage
from api_server.readiness_pipeline.report import ReadinessReport, ReadinessState, StageReport

__all__ = [
    "CheckStatus",
    "Damping",
    "ReadinessCheck",
    "ReadinessCheckResult",
    "ReadinessMonitor",
    "ReadinessPipeline",
    "ReadinessPipelineBuilder",
    "ReadinessReport",
    "ReadinessStage",
    "ReadinessState",
    "StageReport",
]
