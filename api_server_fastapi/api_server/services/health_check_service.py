"""The readiness of this process, kept fresh in the background, with a line in the log for each change."""

import structlog

from api_server.readiness_pipeline import ReadinessMonitor, ReadinessReport, ReadinessState

log = structlog.get_logger("api_server.readiness")


class HealthCheckService(ReadinessMonitor):
    """Keeps the report that the readiness endpoints answer with; each process has one."""

    def reported(self, report: ReadinessReport, before: ReadinessReport | None) -> None:
        if before is not None and _outcome(report) == _outcome(before):
            return
        write = log.info if report.state is ReadinessState.OPERATIONAL else log.warning
        write("readiness changed", state=str(report.state), failing=report.failing)


def _outcome(report: ReadinessReport) -> tuple[ReadinessState, list[str]]:
    return report.state, sorted(report.failing)
