"""Keeps a readiness report fresh in the background, so that asking for it costs nothing."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from api_server.readiness_pipeline.pipeline import ReadinessPipeline
from api_server.readiness_pipeline.report import ReadinessReport, ReadinessState, report_as_json

# Of a period that is over already when a run ends, this much is waited all the same.
_LEAST_PAUSE = 0.1
_JITTER = 0.1


class ReadinessMonitor:
    """Runs a pipeline every `period` seconds at most, every `period_while_failing` while something fails.

    Up to a tenth of a period is left out at random, so that many processes do not ask the same things at once. A report
    that is older than `stale_after` seconds is believed by nobody: not ready. By default that is three periods, and
    never less than two runs may take.
    """

    def __init__(
        self,
        pipeline: ReadinessPipeline,
        *,
        period: float = 5.0,
        period_while_failing: float = 1.0,
        stale_after: float | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._period = period
        self._period_while_failing = min(period, period_while_failing)
        # A report may take its budget, and so may the one before it, whose facts are as old as its beginning.
        self._stale_after = max(3 * period, period + 2 * pipeline.budget) if stale_after is None else stale_after
        self._is_newer = asyncio.Event()
        self._report: ReadinessReport | None = None
        self._is_draining = False

    @property
    def report(self) -> ReadinessReport | None:
        """The newest report; None before the first, which `refreshing` makes before anybody can ask."""
        return self._report

    @property
    def state(self) -> ReadinessState:
        """What the newest report adds up to; `error` before the first."""
        return ReadinessState.ERROR if self._report is None else self._report.state

    @property
    def is_stale(self) -> bool:
        """Whether there is no report that is young enough to be believed."""
        return self._report is None or self._report.age > self._stale_after

    @property
    def is_draining(self) -> bool:
        return self._is_draining

    @property
    def is_ready(self) -> bool:
        """Whether requests should be sent here: not in `error`, not stale, not draining."""
        return self.state is not ReadinessState.ERROR and not self.is_stale and not self._is_draining

    def drain(self) -> None:
        """Be not ready from now on: the process is about to leave."""
        self._is_draining = True

    def as_json(self, *, with_details: bool = False) -> dict[str, object]:
        """Return the body of a readiness endpoint, whose status is 200 if `is_ready`, else 503."""
        report = self._report
        return {
            "is_ready": self.is_ready,
            "state": str(self.state),
            "is_stale": self.is_stale,
            "is_draining": self._is_draining,
            "age_s": None if report is None else round(report.age, 3),
            "duration_ms": None if report is None else report.duration_ms,
            "stages": [] if report is None else report_as_json(report, with_details=with_details),
        }

    async def refresh(self, *, force_rerun: bool = False) -> ReadinessReport:
        """Run the pipeline now and keep its report; with `force_rerun`, execute `run_once` checks again."""
        report = await self._pipeline.run(force_rerun=force_rerun)
        # Several may have waited for this run, and one of them for the next.
        if self._report is None or report.started > self._report.started:
            before, self._report = self._report, report
            self._is_newer.set()
            self.reported(report, before)
        return report

    def reported(self, report: ReadinessReport, before: ReadinessReport | None) -> None:
        """Hear of each new report, and of the one before it."""

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
            await self._pipeline.stop()

    async def _refresh_for_ever(self) -> None:
        while True:
            self._is_newer.clear()
            try:
                async with asyncio.timeout(self._pause()):
                    # By somebody who forced a run: the pause begins anew, and is another one if something fails now.
                    await self._is_newer.wait()
            except TimeoutError:
                await self.refresh()

    def _pause(self) -> float:
        report = self._report
        is_settled = report is not None and report.is_settled
        period = self._period if is_settled else self._period_while_failing
        took = 0.0 if report is None else report.duration_ms / 1000
        return max(period * (1 - random.uniform(0, _JITTER)) - took, period * _LEAST_PAUSE)
