"""Stages of checks, run in order by one run at a time."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from api_server.readiness_pipeline.check import ReadinessCheck, ReadinessCheckResult
from api_server.readiness_pipeline.damping import Damping
from api_server.readiness_pipeline.report import ReadinessReport, StageReport


@dataclass(frozen=True, slots=True)
class ReadinessStage:
    """Checks that belong together.

    They run at once; with `fail_fast` one after the other, up to the first that fails. Where a critical stage or check
    fails, later stages are not run.
    """

    name: str
    checks: Sequence[ReadinessCheck]
    is_critical: bool = False
    fail_fast: bool = False


class ReadinessPipeline:
    """Runs its stages in order, for at most `budget` seconds in all.

    Raises ValueError where two stages, or two checks, have one name.
    """

    def __init__(
        self, stages: Sequence[ReadinessStage], *, budget: float = 5.0, damping: Damping | None = None
    ) -> None:
        self._stages = tuple(stages)
        self.budget = budget
        self._damping = damping or Damping()
        self._flight: asyncio.Task[ReadinessReport] | None = None
        self._is_forced = False
        _require_distinct("stages", [stage.name for stage in stages])
        _require_distinct("checks", [check.name for stage in stages for check in stage.checks])

    async def run(self, *, force_rerun: bool = False) -> ReadinessReport:
        """Run every stage, up to and including the first that fails critically, and report on all.

        Whoever asks while a run goes on gets its report. `force_rerun` executes `run_once` checks again; where a run
        goes on that does not, another follows it. Never raises.
        """
        while self._flight is not None and not self._flight.done():
            if self._is_forced or not force_rerun:
                return await asyncio.shield(self._flight)
            await asyncio.wait({self._flight})
        self._is_forced = force_rerun
        self._flight = asyncio.create_task(_Run(self._damping, self.budget, force_rerun).of(self._stages))
        # Shielded: others wait for the same run.
        return await asyncio.shield(self._flight)

    async def stop(self) -> None:
        """Cancel the run that goes on, if any."""
        if self._flight is not None and not self._flight.done():
            self._flight.cancel()
            with suppress(asyncio.CancelledError):
                await self._flight


class ReadinessPipelineBuilder:
    """Composes a pipeline: stages by `add_stage`, then the checks of each by `add_check`."""

    def __init__(self) -> None:
        self._stages: list[ReadinessStage] = []

    def add_stage(
        self, stage: str | ReadinessStage, *, is_critical: bool = False, fail_fast: bool = False
    ) -> "ReadinessPipelineBuilder":
        """Begin a stage, or add one that is complete already."""
        if isinstance(stage, str):
            stage = ReadinessStage(stage, (), is_critical, fail_fast)
        self._stages.append(stage)
        return self

    def add_check(self, check: ReadinessCheck) -> "ReadinessPipelineBuilder":
        """Add a check to the newest stage. Raises ValueError where there is none yet."""
        if not self._stages:
            raise ValueError(f"the check {check.name} belongs to no stage: call add_stage() first")
        *_, newest = self._stages
        self._stages[-1] = ReadinessStage(newest.name, (*newest.checks, check), newest.is_critical, newest.fail_fast)
        return self

    def build(self, *, budget: float = 5.0, damping: Damping | None = None) -> ReadinessPipeline:
        """Return the pipeline of all stages."""
        return ReadinessPipeline(self._stages, budget=budget, damping=damping)


class _Run:
    """One run of all stages."""

    def __init__(self, damping: Damping, budget: float, force_rerun: bool) -> None:  # noqa: FBT001 - private
        self._damping = damping
        self._force_rerun = force_rerun
        self._began = time.monotonic()
        self._deadline = self._began + budget

    async def of(self, stages: Sequence[ReadinessStage]) -> ReadinessReport:
        reports: list[StageReport] = []
        stopped_by = ""
        for stage in stages:
            if stopped_by:
                results = [check.skipped(f"not run: the stage {stopped_by} failed") for check in stage.checks]
                reports.append(StageReport(stage.name, stage.is_critical, results))
                continue
            reports.append(await self._stage(stage))
            stopped_by = stage.name if reports[-1].has_failed_critically else ""
        return ReadinessReport(tuple(reports), _milliseconds_since(self._began), started=self._began)

    async def _stage(self, stage: ReadinessStage) -> StageReport:
        began = time.monotonic()
        run = self._in_order if stage.fail_fast else self._at_once
        results = await run(stage.checks)
        return StageReport(stage.name, stage.is_critical, results, _milliseconds_since(began))

    async def _in_order(self, checks: Sequence[ReadinessCheck]) -> list[ReadinessCheckResult]:
        results: list[ReadinessCheckResult] = []
        for check in checks:
            results.append(await self._check(check))
            if results[-1].skips_stage:
                return [*results, *(_not_applicable(left, check) for left in checks[len(results) :])]
            if results[-1].has_failed:
                reason = f"not run: {check.name} failed"
                return [*results, *(left.skipped(reason) for left in checks[len(results) :])]
        return results

    async def _at_once(self, checks: Sequence[ReadinessCheck]) -> list[ReadinessCheckResult]:
        tasks = {check: asyncio.create_task(self._check(check)) for check in checks}
        running = set(tasks.values())
        skipping: ReadinessCheckResult | None = None
        try:
            while running and skipping is None:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                skipping = next((task.result() for task in done if task.result().skips_stage), None)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        if skipping is None:
            return [task.result() for task in tasks.values()]
        # Which of the others had answered by then is chance.
        by = next(check for check in checks if check.name == skipping.name)
        return [skipping if check is by else _not_applicable(check, by) for check in checks]

    async def _check(self, check: ReadinessCheck) -> ReadinessCheckResult:
        left = self._deadline - time.monotonic()
        return self._damping.damped(await check.run(force_rerun=self._force_rerun, within=left))


def _not_applicable(check: ReadinessCheck, skipped_by: ReadinessCheck) -> ReadinessCheckResult:
    return check.not_applicable(f"as {skipped_by.name} says of the stage")


def _milliseconds_since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 3)


def _require_distinct(what: str, names: Sequence[str]) -> None:
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{what} of one pipeline have names of their own, but {', '.join(doubled)} stands twice")
