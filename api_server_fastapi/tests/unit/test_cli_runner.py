"""A pipeline is run once, printed a line a check, and leaves nothing open."""

import pytest
from api_server.cli.checks.runner import run_checks
from api_server.readiness_pipeline import ReadinessCheck, ReadinessCheckResult, ReadinessPipeline, ReadinessStage
from api_server.readiness_pipeline import ReadinessState as State


class Scripted(ReadinessCheck):
    def __init__(self, answer: str) -> None:
        super().__init__(f"says_{answer}")
        self._says = answer

    async def _execute(self) -> ReadinessCheckResult:
        if self._says == "failed":
            return self.failed("no", {"error": "at postgresql://me:hush@db/x", "[bold]": 1})
        return self.warning("well") if self._says == "warning" else self.success("yes")


@pytest.mark.parametrize(
    ("answers", "is_critical", "state"),
    [
        (["success", "warning"], True, State.OPERATIONAL),
        (["success", "failed"], False, State.DEGRADED),
        (["success", "failed"], True, State.ERROR),
    ],
)
def test_the_state_is_that_of_the_report(answers: list[str], is_critical: bool, state: State) -> None:
    stage = ReadinessStage("stage", [Scripted(answer) for answer in answers], is_critical=is_critical)
    assert run_checks(ReadinessPipeline([stage])) is state


def test_each_check_is_a_line_with_its_details_and_no_login(capsys: pytest.CaptureFixture[str]) -> None:
    stage = ReadinessStage("stage", [Scripted("success"), Scripted("failed")])
    run_checks(ReadinessPipeline([stage]))
    first, second, last = capsys.readouterr().out.splitlines()
    assert first == "success         says_success: yes"
    assert second == "failed          says_failed: no (error: at postgresql://…@db/x, [bold]: 1)"
    assert last.startswith("degraded after ")


def test_what_was_used_is_given_up_in_order() -> None:
    given_up = []

    async def registry() -> None:
        given_up.append("registry")

    async def engine() -> None:
        given_up.append("engine")

    run_checks(ReadinessPipeline([]), registry, engine)
    assert given_up == ["registry", "engine"]
