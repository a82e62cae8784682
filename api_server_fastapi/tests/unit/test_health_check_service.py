"""What the log says of readiness: each change, once."""

from api_server.readiness_pipeline import ReadinessPipeline, ReadinessStage
from api_server.services.health_check_service import HealthCheckService
from scripted_checks import ScriptedCheck, bad, good
from structlog.testing import capture_logs


async def test_a_line_is_written_when_the_state_or_what_fails_changes() -> None:
    first, second = ScriptedCheck(good, "first"), ScriptedCheck(good, "second")
    health = HealthCheckService(ReadinessPipeline([ReadinessStage("stage", [first, second])]))
    with capture_logs() as lines:
        for answers in ((good, good), (good, good), (bad, good), (bad, good), (bad, bad), (good, good)):
            first.answer, second.answer = answers
            await health.refresh()
    assert [(line["log_level"], line["state"], sorted(line["failing"])) for line in lines] == [
        ("info", "operational", []),
        ("warning", "degraded", ["first"]),
        ("warning", "degraded", ["first", "second"]),
        ("info", "operational", []),
    ]
