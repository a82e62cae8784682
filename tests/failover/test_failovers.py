"""No acknowledged plan is lost and none is doubled, whatever happens to the database: each scenario, once."""

from pathlib import Path

import pytest

from bench.failover.performance import perform
from bench.failover.scenarios import SCENARIOS, SequencerScenario

FAST = ("cut-then-kill",)
# Longer than half a minute, or nearly the same as another: in the report.
LEFT_OUT = ("both-down", "flapping", "freeze-the-standby", "kill-in-turns", "resets", "stop-smartly")


def cases(names: "tuple[str, ...] | list[str]", *marks: pytest.MarkDecorator) -> list[object]:
    return [pytest.param(SCENARIOS[name], id=name, marks=marks) for name in names]


SLOW = [name for name in SCENARIOS if name not in (*FAST, *LEFT_OUT)]


@pytest.mark.parametrize("scenario", [*cases(FAST), *cases(SLOW, pytest.mark.slow)])
def test_a_failover_ends_as_expected(scenario: SequencerScenario, tmp_path: Path) -> None:
    run = perform(scenario, tmp_path, seed=7, rate_per_s=25)
    assert not run.problems, f"{run.problems}\n{[event.text for event in run.events]}\n{run.verdict}"
    assert len(run.promotions) == scenario.failovers
