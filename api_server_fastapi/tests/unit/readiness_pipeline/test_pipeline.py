"""Stages of checks and the report that they make: what runs, in which order, what stops it, and what it adds up to."""

import asyncio
import time
from collections.abc import Callable

import pytest
from api_server.readiness_pipeline import (
    CheckStatus,
    ReadinessCheck,
    ReadinessCheckResult,
    ReadinessPipeline,
    ReadinessPipelineBuilder,
    ReadinessReport,
    ReadinessStage,
    ReadinessState,
)
from scripted_checks import Answer, GatedCheck, ScriptedCheck, bad, good, not_here, odd, skips


def stage(*answers: Answer, name: str = "stage", critical: bool = False, fail_fast: bool = False) -> ReadinessStage:
    checks = [ScriptedCheck(answer, f"{name} {number}") for number, answer in enumerate(answers)]
    return ReadinessStage(name, checks, is_critical=critical, fail_fast=fail_fast)


def statuses(report: ReadinessReport) -> list[list[str]]:
    return [[str(result.status) for result in stage.results] for stage in report.stages]


@pytest.mark.parametrize(
    ("stages", "state"),
    [
        ([], ReadinessState.OPERATIONAL),
        ([stage(good)], ReadinessState.OPERATIONAL),
        ([stage(good, odd, not_here)], ReadinessState.OPERATIONAL),
        ([stage(good, bad)], ReadinessState.DEGRADED),
        ([stage(bad, critical=True)], ReadinessState.ERROR),
        ([stage(bad), stage(good, name="next", critical=True)], ReadinessState.DEGRADED),
        ([stage(bad, skips, critical=True)], ReadinessState.OPERATIONAL),
    ],
)
async def test_the_state_follows_from_what_failed(stages: list[ReadinessStage], state: ReadinessState) -> None:
    assert (await ReadinessPipeline(stages).run()).state is state


async def test_a_critical_check_is_as_bad_as_a_critical_stage() -> None:
    check = ScriptedCheck(bad, is_critical=True)
    report = await ReadinessPipeline([ReadinessStage("first", [check]), stage(good, name="second")]).run()
    assert report.state is ReadinessState.ERROR
    assert statuses(report) == [["failed"], ["skipped"]]


async def test_nothing_runs_after_a_critical_stage_that_failed_and_the_report_says_so() -> None:
    later = ScriptedCheck(good, "later")
    report = await ReadinessPipeline([stage(bad, critical=True), ReadinessStage("next", [later])]).run()
    assert later.runs == 0
    assert statuses(report) == [["failed"], ["skipped"]]
    assert report.stages[1].results[0].message == "not run: the stage stage failed"
    assert report.failing == {"stage 0": "broken"}


async def test_a_stage_that_is_not_critical_stops_nothing() -> None:
    assert statuses(await ReadinessPipeline([stage(bad), stage(good, name="next")]).run()) == [["failed"], ["success"]]


class TestOrder:
    async def test_the_checks_of_a_stage_run_at_once(self) -> None:
        checks = [GatedCheck(str(number)) for number in range(3)]
        running = asyncio.create_task(ReadinessPipeline([ReadinessStage("stage", checks)]).run())
        while not all(check.runs for check in checks):
            await asyncio.sleep(0)
        for check in checks:
            check.gate.set()
        assert (await running).state is ReadinessState.OPERATIONAL

    async def test_with_fail_fast_one_after_the_other_up_to_the_first_failure(self) -> None:
        order: list[str] = []

        def told(answer: Answer) -> Answer:
            def tell(check: ScriptedCheck) -> ReadinessCheckResult:
                order.append(check.name)
                result: ReadinessCheckResult = answer(check)
                return result

            return tell

        report = await ReadinessPipeline([stage(*map(told, [good, bad, good]), fail_fast=True)]).run()
        assert order == ["stage 0", "stage 1"]
        assert statuses(report) == [["success", "failed", "skipped"]]
        assert report.stages[0].results[2].message == "not run: stage 1 failed"

    async def test_a_warning_does_not_stop_a_stage(self) -> None:
        assert statuses(await ReadinessPipeline([stage(odd, good, fail_fast=True)]).run()) == [["warning", "success"]]

    async def test_a_kept_success_is_forgotten_by_what_fails_before_it(self) -> None:
        """What was true of a database that is lost need not be true of the one that comes back."""
        first, second = ScriptedCheck(good, "first"), ScriptedCheck(good, "second", run_once=True)
        pipeline = ReadinessPipeline([ReadinessStage("stage", [first, second], fail_fast=True)])
        for answer in (good, good, bad, good):
            first.answer = answer
            await pipeline.run()
        assert second.runs == 2


class TestSkippedStages:
    @pytest.mark.parametrize("fail_fast", [True, False])
    async def test_one_check_may_say_that_its_stage_does_not_apply(self, fail_fast: bool) -> None:
        skipped = stage(skips, bad, critical=True, fail_fast=fail_fast)
        report = await ReadinessPipeline([skipped, stage(good, name="next")]).run()
        assert statuses(report) == [["not_applicable"] * 2, ["success"]]
        assert report.stages[0].results[1].message == "as stage 0 says of the stage"

    async def test_what_others_answered_by_then_does_not_matter(self) -> None:
        slow = GatedCheck("slow")

        async def later() -> None:
            while not slow.runs:
                await asyncio.sleep(0)
            slow.gate.set()

        class Skips(ReadinessCheck):
            async def _execute(self) -> ReadinessCheckResult:
                await later()
                await asyncio.sleep(0.01)
                return self.skip_stage("not here")

        report = await ReadinessPipeline([ReadinessStage("stage", [slow, Skips("skips")])]).run()
        assert statuses(report) == [["not_applicable", "not_applicable"]]

    async def test_nobody_waits_for_the_rest_of_a_stage_that_does_not_apply(self) -> None:
        hanging = GatedCheck(timeout=60)
        async with asyncio.timeout(1):
            stages = [ReadinessStage("stage", [hanging, ScriptedCheck(skips, "skips")])]
            assert statuses(await ReadinessPipeline(stages).run()) == [["not_applicable", "not_applicable"]]

    async def test_a_word_in_a_message_decides_nothing(self) -> None:
        report = await ReadinessPipeline([stage(lambda check: check.failed("skipped"), critical=True)]).run()
        assert report.state is ReadinessState.ERROR


class TestTimes:
    async def test_a_report_takes_no_longer_than_its_budget(self) -> None:
        stages = [ReadinessStage(str(number), [GatedCheck(f"hangs {number}", timeout=60)]) for number in range(3)]
        began = time.monotonic()
        report = await ReadinessPipeline(stages, budget=0.2).run()
        assert 0.2 <= time.monotonic() - began < 1
        assert statuses(report) == [["failed"]] * 3
        assert report.stages[2].results[0].message == "the time of the report was up before it could run"

    async def test_a_report_and_its_stages_have_their_times(self) -> None:
        def dawdles(check: ReadinessCheck) -> ReadinessCheckResult:
            time.sleep(0.05)
            return check.success("fine")

        report = await ReadinessPipeline([stage(dawdles)]).run()
        assert 50 <= report.stages[0].duration_ms <= report.duration_ms < 1000
        assert report.age * 1000 >= report.duration_ms


class TestSingleFlight:
    async def test_who_asks_at_once_shares_one_run(self) -> None:
        check = ScriptedCheck(good)
        pipeline = ReadinessPipeline([ReadinessStage("stage", [check])])
        reports = await asyncio.gather(*(pipeline.run() for _ in range(1000)))
        assert check.runs == 1
        assert set(map(id, reports)) == {id(reports[0])}

    @pytest.mark.parametrize("leaving", [0, 1])
    async def test_who_leaves_takes_nobody_s_report_with_them(self, leaving: int) -> None:
        check = GatedCheck()
        pipeline = ReadinessPipeline([ReadinessStage("stage", [check])])
        asking = [asyncio.create_task(pipeline.run()) for _ in range(2)]
        while not check.runs:
            await asyncio.sleep(0)
        asking[leaving].cancel()
        await asyncio.sleep(0)
        check.gate.set()
        assert (await asking[1 - leaving]).state is ReadinessState.OPERATIONAL
        assert asking[leaving].cancelled()

    async def test_a_forced_run_follows_one_that_is_not(self) -> None:
        gated, once = GatedCheck(), ScriptedCheck(good, run_once=True)
        pipeline = ReadinessPipeline([ReadinessStage("stage", [once, gated], fail_fast=True)])
        ordinary = asyncio.create_task(pipeline.run())
        while not gated.runs:
            await asyncio.sleep(0)
        forced = [asyncio.create_task(pipeline.run(force_rerun=True)) for _ in range(100)]
        await asyncio.sleep(0)
        gated.gate.set()
        await asyncio.gather(ordinary, *forced)
        assert once.runs == 2

    async def test_a_run_that_goes_on_can_be_stopped(self) -> None:
        check = GatedCheck(timeout=60)
        pipeline = ReadinessPipeline([ReadinessStage("stage", [check, GatedCheck("other", timeout=60)])])
        waiting = asyncio.create_task(pipeline.run())
        while not check.runs:
            await asyncio.sleep(0)
        async with asyncio.timeout(1):
            await pipeline.stop()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            while len(asyncio.all_tasks()) > 1:  # those of the checks, which were told to end
                await asyncio.sleep(0)


class TestBuilder:
    async def test_checks_go_to_the_newest_stage(self) -> None:
        builder = ReadinessPipelineBuilder()
        builder.add_stage("database", is_critical=False, fail_fast=True)
        builder.add_check(ScriptedCheck(bad, "a")).add_check(ScriptedCheck(good, "b"))
        builder.add_stage(stage(good, name="ready-made")).add_stage("empty")
        report = await builder.build().run()
        assert [stage.name for stage in report.stages] == ["database", "ready-made", "empty"]
        assert statuses(report) == [["failed", "skipped"], ["success"], []]

    def test_a_check_needs_a_stage(self) -> None:
        with pytest.raises(ValueError, match=r"the check a belongs to no stage: call add_stage\(\) first"):
            ReadinessPipelineBuilder().add_check(ScriptedCheck(good, "a"))

    @pytest.mark.parametrize(
        ("build", "message"),
        [
            (lambda: [stage(name="a"), stage(name="a")], "stages of one pipeline .* but a stands twice"),
            (
                lambda: [ReadinessStage("a", [ScriptedCheck(good)]), ReadinessStage("b", [ScriptedCheck(good)])],
                "checks of one pipeline .* but check stands twice",
            ),
        ],
    )
    def test_names_are_told_apart(self, build: Callable[[], list[ReadinessStage]], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            ReadinessPipeline(build())


async def test_a_check_that_is_only_slow_is_not_skipped_by_its_own_failure() -> None:
    report = await ReadinessPipeline([stage(good, bad, good)]).run()
    assert statuses(report) == [["success", "failed", "success"]]
    assert report.stages[0].results[0].status is CheckStatus.SUCCESS
