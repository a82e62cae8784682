"""A check: one question about whether the service can do its work, and its answer."""

import asyncio
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeAlias

from api_server.daemon_thread import DaemonThread, abandon
from api_server.readiness_pipeline.plain import plain_details, plain_text

# What a check that is cancelled may take to leave in good order.
_CLEAN_UP_S = 0.05


class CheckStatus(StrEnum):
    """How a check ended; `failed` alone makes the service less than operational.

    `not_applicable`: the question does not arise here. `skipped`: it was not asked, because something before failed.
    """

    SUCCESS = "success"
    WARNING = "warning"
    NOT_APPLICABLE = "not_applicable"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ReadinessCheckResult:
    """The answer of one check.

    The `message` is for everybody; the `details` are for operators, and may hold what a stranger should not see.
    `is_damped`: the check answered otherwise, but not yet often enough to be believed.
    """

    name: str
    status: CheckStatus
    message: str
    details: Mapping[str, object] = field(default_factory=dict)
    is_critical: bool = False
    duration_ms: float = 0.0
    checked_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    skips_stage: bool = False
    is_damped: bool = False

    @property
    def has_failed(self) -> bool:
        return self.status is CheckStatus.FAILED


_Answer: TypeAlias = "ReadinessCheckResult | Awaitable[ReadinessCheckResult]"


class ReadinessCheck(ABC):
    """One question, answered by `_execute`: a coroutine function, or a plain one, which then runs in a thread.

    `is_critical`: a failure counts as one of a critical stage. `run_once`: a success is kept, and the check is not
    executed again unless it is forced. `timeout` is in seconds.
    """

    def __init__(self, name: str, *, is_critical: bool = False, run_once: bool = False, timeout: float = 3.0) -> None:
        self.name = name
        self.is_critical = is_critical
        self.run_once = run_once
        self.timeout = timeout
        self._kept: ReadinessCheckResult | None = None
        self._task: asyncio.Task[ReadinessCheckResult] | None = None
        self._thread: DaemonThread[_Answer] | None = None

    @abstractmethod
    def _execute(self) -> _Answer:
        """Answer by `success`, `warning`, `not_applicable`, `skip_stage` or `failed`; raising counts as failed."""

    async def run(self, *, force_rerun: bool = False, within: float | None = None) -> ReadinessCheckResult:
        """Execute the check, for at most its timeout or `within` seconds, or return the success that is kept.

        Never raises. `force_rerun` forgets what is kept.
        """
        if force_rerun:
            self.forget()
        if self._kept is not None:
            return self._kept
        started = time.perf_counter()
        result = await self._answer(self.timeout if within is None else min(within, self.timeout))
        result = replace(
            result,
            # What an application made need not be what it should be.
            message=plain_text(result.message),
            details=plain_details(result.details),
            duration_ms=round((time.perf_counter() - started) * 1000, 3),
        )
        if self.run_once and result.status is CheckStatus.SUCCESS:
            self._kept = result
        return result

    def forget(self) -> None:
        """Keep no success: the next run executes the check."""
        self._kept = None

    async def _answer(self, seconds: float) -> ReadinessCheckResult:
        if seconds <= 0:
            return self.failed("the time of the report was up before it could run")
        if self._is_running:
            return self.failed("the previous run has not ended")
        # Not asyncio.timeout(), which waits for a check that does not let itself be cancelled.
        self._task = task = asyncio.create_task(self._executed(), name=f"readiness check {self.name}")
        deadline = time.monotonic() + seconds
        try:
            await asyncio.wait({task}, timeout=seconds)
            # One that blocks the event loop answers when nobody can tell that it is late, but by a clock.
            if task.done() and time.monotonic() <= deadline + _CLEAN_UP_S:
                return self.failed("was cancelled") if task.cancelled() else task.result()
            task.cancel()
            await asyncio.wait({task}, timeout=_CLEAN_UP_S)
            return self.failed(f"no answer within {seconds:g} s")
        finally:
            task.cancel()
            if not task.done():
                abandon(task)

    @property
    def _is_running(self) -> bool:
        """Whether a former run goes on, as that of a thread does, which nothing can stop."""
        has_task = self._task is not None and not self._task.done()
        return has_task or (self._thread is not None and self._thread.is_running)

    async def _executed(self) -> ReadinessCheckResult:
        try:
            if inspect.iscoroutinefunction(self._execute):
                answer: _Answer = self._execute()
            else:
                self._thread = DaemonThread(self._execute, name=f"readiness check {self.name}")
                answer = await self._thread.outcome()
            result = await answer if inspect.isawaitable(answer) else answer
        # The edge: a check that breaks is a failed check, not a broken report; nor does one that exits end the service.
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001
            return self.failed(type(error).__name__, {"error": plain_text(error)})
        if isinstance(result, ReadinessCheckResult):
            return result
        return self.failed(f"the check answered {type(result).__name__}, which is no ReadinessCheckResult")

    def success(self, message: str, details: Mapping[str, object] | None = None) -> ReadinessCheckResult:
        return self._result(CheckStatus.SUCCESS, message, details)

    def warning(self, message: str, details: Mapping[str, object] | None = None) -> ReadinessCheckResult:
        """Answer that the work can be done, and that somebody should look all the same."""
        return self._result(CheckStatus.WARNING, message, details)

    def not_applicable(self, message: str, details: Mapping[str, object] | None = None) -> ReadinessCheckResult:
        """Answer that the question does not arise here."""
        return self._result(CheckStatus.NOT_APPLICABLE, message, details)

    def skip_stage(self, message: str, details: Mapping[str, object] | None = None) -> ReadinessCheckResult:
        """Answer that neither this question nor any other of the stage arises here."""
        return replace(self._result(CheckStatus.NOT_APPLICABLE, message, details), skips_stage=True)

    def failed(self, message: str, details: Mapping[str, object] | None = None) -> ReadinessCheckResult:
        return self._result(CheckStatus.FAILED, message, details)

    def skipped(self, message: str) -> ReadinessCheckResult:
        """Be the answer of a check that is not asked, because something before failed; what it kept is forgotten."""
        self.forget()
        return self._result(CheckStatus.SKIPPED, message)

    def _result(
        self, status: CheckStatus, message: str, details: Mapping[str, object] | None = None
    ) -> ReadinessCheckResult:
        return ReadinessCheckResult(self.name, status, message, details or {}, is_critical=self.is_critical)
