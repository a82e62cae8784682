"""Keeps the readiness report fresh, so that asking for it costs nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from api_server.readiness_pipeline import ReadinessPipeline, ReadinessReport, ReadinessState

log = structlog.get_logger("api_server.readiness")


class HealthCheckService:
    """Runs the readiness pipeline every `period` seconds, every second while something fails."""

    def __init__(self, pipeline: ReadinessPipeline, *, period: float = 5.0, period_while_failing: float = 1.0) -> None:
        self._pipeline = pipeline
        self._period = period
        self._period_while_failing = period_while_failing
        self._report: ReadinessReport | None = None
        self._made_at = 0.0

    @property
    def report(self) -> ReadinessReport:
        """The newest report. `refreshing` makes the first one before anybody can ask."""
        assert self._report is not None
        return self._report

    @property
    def age(self) -> float:
        """Seconds since the newest report was complete."""
        return time.monotonic() - self._made_at

    @property
    def is_stale(self) -> bool:
        """Whether the report is too old to be believed."""
        return self._report is None or self.age > 3 * self._period

    async def refresh(self) -> ReadinessReport:
        """Run the pipeline now and keep its report."""
        report = await self._pipeline.run()
        if self._report is None or report.state is not self._report.state:
            write = log.info if report.state is ReadinessState.OPERATIONAL else log.warning
            write("readiness changed", state=report.state, failing=report.failing)
        self._report, self._made_at = report, time.monotonic()
        return report

    @asynccontextmanager
    async def refreshing(self) -> AsyncIterator[None]:
        """Make the first report, then keep it fresh for as long as the context lasts."""
        await self.refresh()
        task = asyncio.create_task(self._refresh_for_ever(), name="readiness refresh")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _refresh_for_ever(self) -> None:
        while True:
            failing = self._report is not None and self._report.state is not ReadinessState.OPERATIONAL
            await asyncio.sleep(self._period_while_failing if failing else self._period)
            await self.refresh()
