"""Checks, stages and the state that they add up to."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from api_server.readiness_pipeline import (
    CheckStatus,
    ReadinessCheck,
    ReadinessCheckResult,
    ReadinessPipeline,
    ReadinessStage,
    ReadinessState,
)


class Check(ReadinessCheck):
    """Answers by calling a function with itself."""

    def __init__(self, answer: Callable[["Check"], ReadinessCheckResult], name: str = "check") -> None:
        super().__init__(name, timeout=0.1)
        self._answer = answer

    def _execute(self) -> ReadinessCheckResult:
        return self._answer(self)


class HangingCheck(ReadinessCheck):
    async def _execute(self) -> ReadinessCheckResult:
        await asyncio.Event().wait()
        raise AssertionError


def good(check: Check) -> ReadinessCheckResult:
    return check.success("fine")


def bad(check: Check) -> ReadinessCheckResult:
    return check.failed("broken")


def odd(check: Check) -> ReadinessCheckResult:
    return check.warning("hm")


def none(check: Check) -> ReadinessCheckResult:
    return check.not_applicable("not here")


def stage(*answers: Callable[[Check], ReadinessCheckResult], critical: bool = False) -> ReadinessStage:
    checks = [Check(answer, f"check {number}") for number, answer in enumerate(answers)]
    return ReadinessStage("stage", checks, is_critical=critical)


@pytest.mark.parametrize(
    ("stages", "state"),
    [
        ([stage(good)], ReadinessState.OPERATIONAL),
        ([stage(good, odd, none)], ReadinessState.OPERATIONAL),
        ([stage(good, bad)], ReadinessState.DEGRADED),
        ([stage(bad, critical=True)], ReadinessState.ERROR),
        ([stage(bad), stage(good, critical=True)], ReadinessState.DEGRADED),
        ([], ReadinessState.OPERATIONAL),
    ],
)
async def test_the_state_follows_from_what_failed(stages: list[ReadinessStage], state: ReadinessState) -> None:
    assert (await ReadinessPipeline(stages).run()).state is state


async def test_nothing_runs_after_a_critical_stage_that_failed() -> None:
    report = await ReadinessPipeline([stage(bad, critical=True), stage(good)]).run()
    assert len(report.stages) == 1
    assert report.failing == {"check 0": "broken"}


async def test_a_stage_that_is_not_critical_stops_nothing() -> None:
    report = await ReadinessPipeline([stage(bad), stage(good)]).run()
    assert [stage.has_failed for stage in report.stages] == [True, False]


async def test_a_check_that_raises_has_failed() -> None:
    def raises(check: Check) -> ReadinessCheckResult:
        raise ZeroDivisionError("a fact for operators")

    result = await Check(raises).run()
    assert (result.status, result.message) == (CheckStatus.FAILED, "ZeroDivisionError")
    assert result.details == {"error": "a fact for operators"}


async def test_a_check_that_hangs_has_failed_when_its_time_is_up() -> None:
    result = await HangingCheck("hanging", timeout=0.05).run()
    assert (result.status, result.message) == (CheckStatus.FAILED, "no answer within 0.05 s")
    assert 50 <= result.duration_ms < 1000


async def test_a_plain_check_does_not_hold_the_loop() -> None:
    threads: list[threading.Thread] = []

    def blocks(check: Check) -> ReadinessCheckResult:
        threads.append(threading.current_thread())
        return check.success("fine")

    await Check(blocks).run()
    assert threads[0] is not threading.main_thread()


async def test_a_thread_that_hangs_is_not_joined_by_another() -> None:
    released = threading.Event()
    runs: list[int] = []

    def hangs(check: Check) -> ReadinessCheckResult:
        runs.append(1)
        released.wait()
        return check.success("fine")

    check = Check(hangs)
    messages = [(await check.run()).message for _ in range(3)]
    assert messages == ["no answer within 0.1 s"] + ["the previous run has not ended"] * 2
    assert len(runs) == 1
    released.set()
    assert check._thread is not None
    await check._thread
    assert (await check.run()).status is CheckStatus.SUCCESS


async def test_the_checks_of_a_stage_run_at_once() -> None:
    def slow(check: Check) -> ReadinessCheckResult:
        time.sleep(0.05)
        return check.success("fine")

    started = time.perf_counter()
    await ReadinessPipeline([stage(*[slow] * 4)]).run()
    assert time.perf_counter() - started < 0.15


def test_the_mechanism_loads_neither_sqlalchemy_nor_strawberry() -> None:
    code = (
        "import sys, api_server.readiness_pipeline; print({'sqlalchemy', 'strawberry', 'fastapi'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
