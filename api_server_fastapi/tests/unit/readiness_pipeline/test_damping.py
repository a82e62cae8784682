"""A check that flaps is believed as often as the settings say."""

import asyncio

import pytest
from api_server.readiness_pipeline import (
    Damping,
    ReadinessMonitor,
    ReadinessPipeline,
    ReadinessStage,
    ReadinessState,
)
from scripted_checks import ScriptedCheck, bad, good


@pytest.mark.parametrize(
    ("failures", "successes", "answers", "states"),
    [
        (1, 1, "+-+-", "+-+-"),
        (3, 1, "+--+--+---+", "+++++++++-+"),
        (1, 3, "+-++-+++", "+------+"),
        (2, 2, "+-+--+-++", "++++----+"),
        (3, 1, "-", "-"),
        (3, 2, "-+-++", "----+"),
    ],
)
async def test_a_contradiction_is_believed_when_it_is_repeated(
    failures: int, successes: int, answers: str, states: str
) -> None:
    check = ScriptedCheck(good)
    pipeline = ReadinessPipeline([ReadinessStage("stage", [check])], damping=Damping(failures, successes))
    seen = ""
    for answer in answers:
        check.answer = good if answer == "+" else bad
        seen += "+" if (await pipeline.run()).state is ReadinessState.OPERATIONAL else "-"
    assert seen == states


async def test_what_is_not_believed_yet_is_told() -> None:
    check = ScriptedCheck(good)
    pipeline = ReadinessPipeline([ReadinessStage("stage", [check])], damping=Damping(2, 2))
    messages = []
    for answer in (good, bad, bad, good, good):
        check.answer = answer
        result = (await pipeline.run()).stages[0].results[0]
        messages.append((str(result.status), result.message))
    assert messages == [
        ("success", "fine"),
        ("warning", "failed 1 of 2 times in a row: broken"),
        ("failed", "broken"),
        ("failed", "good 1 of 2 times in a row: fine"),
        ("success", "fine"),
    ]


async def test_what_has_begun_to_fail_is_looked_at_every_moment() -> None:
    check = ScriptedCheck(good)
    pipeline = ReadinessPipeline([ReadinessStage("stage", [check])], damping=Damping(1000, 1))
    monitor = ReadinessMonitor(pipeline, period=60, period_while_failing=0.01)
    await monitor.refresh()
    check.answer = bad
    async with monitor.refreshing(), asyncio.timeout(5):
        while check.runs < 5:
            await asyncio.sleep(0.005)
    assert monitor.state is ReadinessState.OPERATIONAL
