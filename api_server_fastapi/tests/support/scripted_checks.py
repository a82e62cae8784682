"""Readiness checks that answer what a test tells them."""

import asyncio
from collections.abc import Callable
from typing import Any

from api_server.readiness_pipeline import ReadinessCheck, ReadinessCheckResult

Answer = Callable[["ScriptedCheck"], Any]


class ScriptedCheck(ReadinessCheck):
    """Answers by calling `answer` with itself, in a thread, and counts how often."""

    def __init__(self, answer: Answer, name: str = "check", **options: Any) -> None:
        super().__init__(name, **{"timeout": 0.5, **options})
        self.answer = answer
        self.runs = 0

    def _execute(self) -> ReadinessCheckResult:
        self.runs += 1
        result: ReadinessCheckResult = self.answer(self)
        return result


class GatedCheck(ReadinessCheck):
    """Succeeds when its gate opens; a gate that stays shut makes it hang."""

    def __init__(self, name: str = "gated", **options: Any) -> None:
        super().__init__(name, **options)
        self.gate = asyncio.Event()
        self.runs = 0

    async def _execute(self) -> ReadinessCheckResult:
        self.runs += 1
        await self.gate.wait()
        return self.success("let through")


def good(check: ReadinessCheck) -> ReadinessCheckResult:
    return check.success("fine")


def bad(check: ReadinessCheck) -> ReadinessCheckResult:
    return check.failed("broken")


def odd(check: ReadinessCheck) -> ReadinessCheckResult:
    return check.warning("hm")


def not_here(check: ReadinessCheck) -> ReadinessCheckResult:
    return check.not_applicable("not here")


def skips(check: ReadinessCheck) -> ReadinessCheckResult:
    return check.skip_stage("nothing of this is here")
