"""The report that is kept fresh in the background."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from api_server.readiness_pipeline import (
    ReadinessCheck,
    ReadinessMonitor,
    ReadinessPipeline,
    ReadinessPipelineBuilder,
    ReadinessReport,
    ReadinessStage,
    ReadinessState,
)
from scripted_checks import Answer, GatedCheck, ScriptedCheck, bad, good


class Unspeakable:
    def __str__(self) -> str:
        raise ZeroDivisionError


CYCLIC: dict[str, Any] = {}
CYCLIC["self"] = CYCLIC
ODD_DETAILS = [
    "oops",
    ["a"],
    7,
    {"name": "\ud800"},
    {"\ud800": "name"},
    CYCLIC,
    {"unspeakable": Unspeakable()},
    {"long": "x" * 1_000_000, "many": list(range(100_000)), "huge": 10**5000},
    Unspeakable(),
]


def monitor_of(
    check: ReadinessCheck, *, critical: bool = True, budget: float = 5.0, **options: float
) -> ReadinessMonitor:
    pipeline = ReadinessPipeline([ReadinessStage("stage", [check], is_critical=critical)], budget=budget)
    return ReadinessMonitor(pipeline, **{"period": 0.03, "period_while_failing": 0.01, **options})


async def test_before_the_first_report_nothing_is_ready() -> None:
    monitor = monitor_of(ScriptedCheck(good))
    assert (monitor.is_ready, monitor.is_stale, monitor.state) == (False, True, ReadinessState.ERROR)
    assert monitor.as_json()["state"] == "error"


async def test_there_is_a_report_before_anybody_can_ask() -> None:
    monitor = monitor_of(ScriptedCheck(good))
    async with monitor.refreshing():
        assert (monitor.is_ready, monitor.is_stale, monitor.state) == (True, False, ReadinessState.OPERATIONAL)


@pytest.mark.parametrize(("critical", "is_ready"), [(True, False), (False, True)])
async def test_the_report_follows_what_happens(critical: bool, is_ready: bool) -> None:
    check = ScriptedCheck(good)
    monitor = monitor_of(check, critical=critical)
    async with monitor.refreshing(), asyncio.timeout(5):
        for answer, state in ((bad, not ReadinessState.OPERATIONAL), (good, ReadinessState.OPERATIONAL)):
            check.answer = answer
            while (monitor.state is ReadinessState.OPERATIONAL) is not bool(state):
                await asyncio.sleep(0.005)
            assert monitor.is_ready is (True if state else is_ready)


async def test_asking_runs_no_check() -> None:
    check = ScriptedCheck(good)
    monitor = monitor_of(check)
    await monitor.refresh()
    for _ in range(1000):
        assert monitor.as_json()["is_ready"]
    assert check.runs == 1


async def test_a_report_that_several_waited_for_is_one_report() -> None:
    told: list[ReadinessReport] = []

    class Told(ReadinessMonitor):
        def reported(self, report: ReadinessReport, before: ReadinessReport | None) -> None:
            told.append(report)

    monitor = Told(ReadinessPipeline([ReadinessStage("stage", [ScriptedCheck(good)])]))
    await asyncio.gather(*(monitor.refresh() for _ in range(10)))
    assert told == [monitor.report]


async def test_a_report_that_is_no_longer_made_gets_stale_and_is_not_ready() -> None:
    monitor = monitor_of(ScriptedCheck(good), stale_after=0.1)
    await monitor.refresh()
    assert monitor.is_ready
    async with asyncio.timeout(5):
        while not monitor.is_stale:
            await asyncio.sleep(0.01)
    assert not monitor.is_ready
    body = monitor.as_json()
    assert (body["state"], body["is_stale"]) == ("operational", True)


async def test_a_process_that_leaves_is_not_ready() -> None:
    monitor = monitor_of(ScriptedCheck(good))
    await monitor.refresh()
    monitor.drain()
    assert not monitor.is_ready
    body = monitor.as_json()
    assert (body["state"], body["is_draining"], body["is_ready"]) == ("operational", True, False)


async def test_reports_are_made_at_least_once_a_period_however_long_they_take() -> None:
    hanging = GatedCheck("hanging", timeout=0.05)
    began: list[float] = []

    class Told(ReadinessMonitor):
        def reported(self, report: ReadinessReport, before: ReadinessReport | None) -> None:
            began.append(report.started)

    pipeline = ReadinessPipeline([ReadinessStage("stage", [hanging])])
    monitor = Told(pipeline, period=0.2, period_while_failing=0.2)
    async with monitor.refreshing(), asyncio.timeout(10):
        while len(began) < 5:
            await asyncio.sleep(0.01)
    pauses = [later - earlier for earlier, later in pairwise(began)]
    # Up to a tenth less at random, and what a busy machine adds.
    assert 0.17 <= min(pauses) <= 0.21


async def test_a_failure_that_somebody_forced_to_light_is_looked_at_every_moment() -> None:
    check = ScriptedCheck(good)
    monitor = monitor_of(check, period=60, period_while_failing=0.01)
    async with monitor.refreshing(), asyncio.timeout(5):
        check.answer = bad
        await monitor.refresh(force_rerun=True)
        while check.runs < 5:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("period", [1.0, 3.3, 10.0])
async def test_a_report_that_takes_as_long_as_it_may_is_not_stale_before_the_next(period: float) -> None:
    """Two that take their budget, the second of which began a period after the first."""
    pipeline = ReadinessPipeline([ReadinessStage("stage", [ScriptedCheck(good)])], budget=5.0)
    monitor = ReadinessMonitor(pipeline, period=period)
    assert monitor._stale_after >= period + 2 * pipeline.budget


async def test_periods_differ_by_a_little() -> None:
    monitor = monitor_of(ScriptedCheck(good), period=10)
    await monitor.refresh()
    pauses = [monitor._pause() for _ in range(200)]
    assert 8.5 < min(pauses) < 9.2
    assert 9.7 < max(pauses) <= 10


async def test_the_jitter_never_makes_a_period_longer() -> None:
    monitor = monitor_of(ScriptedCheck(bad), period=10, period_while_failing=1)
    await monitor.refresh()
    assert max(monitor._pause() for _ in range(200)) <= 1


async def test_refreshing_ends_with_its_context_and_takes_a_run_with_it() -> None:
    check = ScriptedCheck(good)
    monitor = monitor_of(check)
    async with monitor.refreshing():
        pass
    hanging = GatedCheck(timeout=60)
    monitor = monitor_of(hanging, budget=0.05)
    async with monitor.refreshing(), asyncio.timeout(5):
        monitor._pipeline.budget = 60
        while hanging.runs < 2:
            await asyncio.sleep(0.005)
    async with asyncio.timeout(1):
        while len(asyncio.all_tasks()) > 1:  # that of the check, which was told to end
            await asyncio.sleep(0)


class TestBody:
    async def body(self, answer: Answer, *, with_details: bool) -> Any:
        monitor = monitor_of(ScriptedCheck(answer))
        await monitor.refresh()
        body = monitor.as_json(with_details=with_details)
        json.dumps(body, allow_nan=False)
        return body

    async def test_it_has_times_states_and_messages(self) -> None:
        body = await self.body(bad, with_details=False)
        assert list(body) == ["is_ready", "state", "is_stale", "is_draining", "age_s", "duration_ms", "stages"]
        (stage,) = body["stages"]
        assert list(stage) == ["name", "is_critical", "duration_ms", "checks"]
        (check,) = stage["checks"]
        assert list(check) == ["name", "status", "message", "is_critical", "checked_at", "duration_ms"]

    async def test_details_are_shown_to_who_may_see_them(self) -> None:
        def tells(check: ScriptedCheck) -> object:
            return check.failed("broken", {"error": "of the inside"})

        assert "of the inside" not in str(await self.body(tells, with_details=False))
        assert "of the inside" in str(await self.body(tells, with_details=True))

    @pytest.mark.parametrize("odd", ODD_DETAILS, ids=lambda odd: type(odd).__name__)
    async def test_nothing_that_a_check_says_breaks_the_body(self, odd: Any) -> None:
        for answer in (lambda check: check.failed("broken", odd), lambda check: check.failed(odd)):
            body = await self.body(answer, with_details=True)
            text = json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
            assert b"failed" in text
            assert len(text) < 100_000

    async def test_details_of_any_kind_are_json(self) -> None:
        odd = {"nan": float("nan"), "set": {1}, "object": object(), "nested": {1: [b"bytes", 1.5, None, True]}}
        body = await self.body(lambda check: check.success("fine", odd), with_details=True)
        details = body["stages"][0]["checks"][0]["details"]
        assert details["nan"] == "nan"
        assert details["nested"] == {"1": ["b'bytes'", 1.5, None, True]}


def test_a_plain_app_has_it_in_ten_lines() -> None:
    lines = [line for line in PLAIN.strip().splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) <= 10
    namespace: dict[str, object] = {"MyCheck": ScriptedCheck, "good": good}
    exec(PLAIN, namespace)
    assert isinstance(namespace["monitor"], ReadinessMonitor)
    assert isinstance(ReadinessPipelineBuilder().build(), ReadinessPipeline)


PLAIN = """
from contextlib import asynccontextmanager
from fastapi import FastAPI, Response
from api_server.readiness_pipeline import ReadinessMonitor, ReadinessPipelineBuilder

monitor = ReadinessMonitor(ReadinessPipelineBuilder().add_stage("orders").add_check(MyCheck(good)).build())

@asynccontextmanager
async def lifespan(app):
    async with monitor.refreshing():
        yield

app = FastAPI(lifespan=lifespan)

@app.get("/readyz")
async def readyz(response: Response):
    response.status_code = 200 if monitor.is_ready else 503
    return monitor.as_json()
"""
