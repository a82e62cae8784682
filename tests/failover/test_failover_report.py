"""What the report says of runs, without any."""

from dataclasses import replace
from typing import Any

import pytest
from api_server.local.lab import Promotion
from api_server.testing.failover import Event, Ledger, Reply, Row, Run, verdict

from bench.failover.report import document_of, table, targets
from bench.failover.scenarios import SCENARIOS


def run(name: str, *, is_kept: bool, promotions: int = 1) -> Run:
    ledger = Ledger()
    ledger.finished(ledger.sent("k", "rest"), Reply("acknowledged", 201, None, "plan"))
    began_at = ledger.requests[0].sent_at
    accepting_at = [began_at - 0.001] * promotions
    return Run(
        scenario=SCENARIOS[name],
        seed=1,
        began_at=began_at,
        ledger=ledger,
        verdict=verdict(ledger, [Row("k", "plan")] if is_kept else [], accepting_at=accepting_at),
        events=[Event(began_at, "kill -9 a", is_disturbance=True)],
        promotions=[Promotion("b", 2, at, at + 0.25) for at in accepting_at],
        bystanders={},
        residue_before={},
        residue_after={},
    )


def missed(documents: list[dict[str, Any]]) -> set[str]:
    return {name for name, figure in targets(documents).items() if not figure["is_reached"]}


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    runs = [
        run("kill", is_kept=True, promotions=20),
        run("kill-haproxy-route", is_kept=True),
        run("asynchronous", is_kept=False),
    ]
    return [document_of(each) for each in runs]


def test_targets_that_are_reached_are_told_with_what_they_were_measured_on(documents: list[dict[str, Any]]) -> None:
    assert missed(documents) == set()
    assert any("direct, ms (20 promotions)" in name for name in targets(documents))


@pytest.mark.parametrize(
    ("place", "wrong", "target"),
    [
        (0, {"lost": 1}, "acknowledged plans lost"),
        (0, {"doubled": 1}, "plans doubled"),
        (0, {"phantom": 1}, "refused plans that are there"),
        (0, {"failovers": 18}, "failovers under synchronous replication"),
        (2, {"lost": 0}, "controls that lost nothing"),
        (0, {"problems": ["a hang"]}, "runs that were not as expected"),
        (0, {"first_acks_ms": [251.0]}, "first acknowledgement after a promotion, p95, direct, ms (1 promotions)"),
        (0, {"first_acks_ms": [None]}, "first acknowledgement after a promotion, p95, direct, ms (1 promotions)"),
    ],
)
def test_each_target_can_be_missed(
    documents: list[dict[str, Any]], place: int, wrong: dict[str, Any], target: str
) -> None:
    documents[place] |= wrong
    assert missed(documents) == {target}


def test_failovers_are_those_that_happened_not_those_that_should_have() -> None:
    assert document_of(replace(run("kill", is_kept=True), promotions=[]))["failovers"] == 0


def test_what_waiting_for_a_standby_added_is_told() -> None:
    assert document_of(run("kill", is_kept=True))["standby_waits_ms"] == [250.0]


def test_the_timeline_tells_a_lost_plan_from_one_that_is_kept() -> None:
    kept, lost = (document_of(run("kill", is_kept=is_kept))["timeline"] for is_kept in (True, False))
    assert (kept["acknowledged"], kept["lost"]) == ([1], [0])
    assert (lost["acknowledged"], lost["lost"]) == ([0], [1])
    assert kept["events"] == [[0.0, "kill -9 a"]]


def test_the_table_has_a_row_for_each_scenario(documents: list[dict[str, Any]]) -> None:
    _, _, *rows = table([*documents, *documents])
    assert [row.split("`")[1] for row in rows] == ["kill", "kill-haproxy-route", "asynchronous"]
    assert "| 2 | 40 | 2 | 0 | 0 |" in rows[0]
