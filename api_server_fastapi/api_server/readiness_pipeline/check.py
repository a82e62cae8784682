"""A check: one question about whether the service can do its work, and its answer."""

import asyncio
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import cast


class CheckStatus(StrEnum):
    """How a check ended; `failed` alone makes the service less than operational."""

    SUCCESS = "success"
    WARNING = "warning"
    NOT_APPLICABLE = "not_applicable"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ReadinessCheckResult:
    """The answer of one check; `details` are for operators and may hold what a stranger should not see."""

    name: str
    status: CheckStatus
    message: str
    details: Mapping[str, str] = field(default_factory=dict)
    duration_ms: float = 0.0


class ReadinessCheck(ABC):
    """One question, answered by `_execute`, a coroutine function or a plain one, which then runs in a thread."""

    def __init__(self, name: str, *, timeout: float = 3.0) -> None:
        self.name = name
        self.timeout = timeout
        self._thread: asyncio.Future[ReadinessCheckResult] | None = None

    @abstractmethod
    def _execute(self) -> ReadinessCheckResult | Coroutine[object, object, ReadinessCheckResult]:
        """Answer by `success`, `warning`, `not_applicable` or `failed`; raising counts as failed."""

    async def run(self) -> ReadinessCheckResult:
        """Execute the check within its timeout (seconds). Never raises."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self.timeout):
                result = await self._awaited()
        except TimeoutError:
            result = self.failed(f"no answer within {self.timeout:g} s")
        except Exception as error:  # noqa: BLE001 - the edge: a check that breaks is a failed check, not a broken report
            result = self.failed(type(error).__name__, {"error": str(error)})
        return replace(result, duration_ms=round((time.perf_counter() - started) * 1000, 3))

    async def _awaited(self) -> ReadinessCheckResult:
        execute = self._execute
        if inspect.iscoroutinefunction(execute):
            result: ReadinessCheckResult = await execute()
            return result
        # A thread cannot be stopped: one that hangs must not be joined by another at each run.
        if self._thread is not None and not self._thread.done():
            return self.failed("the previous run has not ended")
        plain = cast("Callable[[], ReadinessCheckResult]", execute)
        self._thread = asyncio.ensure_future(asyncio.to_thread(plain))
        return await asyncio.shield(self._thread)

    def success(self, message: str, details: Mapping[str, str] | None = None) -> ReadinessCheckResult:
        return ReadinessCheckResult(self.name, CheckStatus.SUCCESS, message, details or {})

    def warning(self, message: str, details: Mapping[str, str] | None = None) -> ReadinessCheckResult:
        return ReadinessCheckResult(self.name, CheckStatus.WARNING, message, details or {})

    def not_applicable(self, message: str, details: Mapping[str, str] | None = None) -> ReadinessCheckResult:
        return ReadinessCheckResult(self.name, CheckStatus.NOT_APPLICABLE, message, details or {})

    def failed(self, message: str, details: Mapping[str, str] | None = None) -> ReadinessCheckResult:
        return ReadinessCheckResult(self.name, CheckStatus.FAILED, message, details or {})
