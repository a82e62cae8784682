"""What a run is blamed for."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from api_server.local.lab import Lab, Promotion
from api_server.testing.failover import Expectation, Ledger, Observation, Reply, Run, Scenario, ServerError, verdict
from api_server.testing.failover.problems import problems_of
from api_server.testing.failover.server_errors import server_errors

QUIET = {"livez": Observation([1.0, 1.1, 1.2])}


def run(*, expected: Expectation | None = None, **more: Any) -> Run:
    scenario = Scenario(
        name="s", failure_mode="F1", says="", steps=lambda _: None, failovers=1, expected=expected or Expectation()
    )
    ledger = Ledger()
    ledger.finished(ledger.sent("k", "rest"), Reply("acknowledged"))
    good = Run(
        scenario=scenario,
        seed=1,
        began_at=0.0,
        ledger=ledger,
        verdict=verdict(ledger, []),
        events=[],
        promotions=[Promotion("b", 2, 10.0, 10.0)],
        bystanders=QUIET,
        rate_per_s=50.0,
        given_back=frozenset({"used slots"}),
        residue_before={"tasks": 9, "used slots": 0},
        residue_after={"tasks": 9, "used slots": 0},
    )
    return replace(good, verdict=judged(good), **more)


def judged(good: Run, **figures: Any) -> Any:
    nothing_wrong: dict[str, Any] = {
        "lost": (),
        "doubled": (),
        "phantom": (),
        "errors": {},
        "slowest_ms": 100.0,
        "rate_per_s": 50.0,
    }
    return replace(good.verdict, **{**nothing_wrong, **figures})


def with_verdict(expected: Expectation | None = None, **figures: Any) -> Run:
    good = run(expected=expected)
    return replace(good, verdict=judged(good, **figures))


def test_a_run_that_is_as_expected_has_no_problem() -> None:
    assert problems_of(run(), 10.0) == []


@pytest.mark.parametrize(
    ("figures", "problem"),
    [
        ({"lost": ("a", "b")}, "2 acknowledged writes are lost: a, b"),
        ({"doubled": ("a",)}, "1 writes are doubled: a"),
        ({"phantom": ("a",)}, "1 refused writes are there: a"),
        ({"errors": {"STORAGE_UNAVAILABLE": 3}}, "clients saw errors: {'STORAGE_UNAVAILABLE': 3}"),
        ({"unasked": ("a",)}, "1 writes are there that nobody asked for: a"),
        ({"rate_per_s": 47.0}, "writers asked 47.0 times a second instead of 50"),
        ({"slowest_ms": 10_501.0}, "an answer took 10501 ms, and may take 10500"),
    ],
)
def test_what_must_not_be_is_a_problem(figures: Mapping[str, Any], problem: str) -> None:
    assert problems_of(with_verdict(**figures), 10.0) == [problem]


def test_a_control_that_loses_nothing_is_a_problem() -> None:
    loses = Expectation(loses=True, client_errors=frozenset({"X", "STORAGE_UNAVAILABLE"}))
    assert problems_of(with_verdict(loses, lost=("a",), errors={"X": 1}), 10.0) == []
    (problem,) = problems_of(with_verdict(loses), 10.0)
    assert problem.startswith("nothing was lost")


def test_an_outage_may_be_so_long_that_clients_see_errors() -> None:
    assert (
        problems_of(
            with_verdict(
                Expectation(client_errors=frozenset({"X", "STORAGE_UNAVAILABLE"})), errors={"STORAGE_UNAVAILABLE": 3}
            ),
            10.0,
        )
        == []
    )


@pytest.mark.parametrize("first", [251.0, None])
def test_a_first_acknowledgement_that_is_late_or_missing_is_a_problem(first: float | None) -> None:
    expected = Expectation(first_ack_ms=250)
    assert problems_of(with_verdict(expected, first_ack_ms=(100.0,)), 10.0) == []
    assert len(problems_of(with_verdict(expected, first_ack_ms=(100.0, first)), 10.0)) == 1


def test_a_window_that_is_too_long_is_a_problem() -> None:
    expected = Expectation(longest_window_ms=1000)
    assert problems_of(with_verdict(expected, windows_ms=(900.0,)), 10.0) == []
    assert len(problems_of(with_verdict(expected, windows_ms=(900.0, 1100.0)), 10.0)) == 1


def test_a_request_that_was_never_answered_is_a_problem() -> None:
    hanging = run()
    hanging.ledger.sent("l", "rest")
    assert problems_of(hanging, 10.0) == ["1 requests were never answered"]


@pytest.mark.parametrize(
    "seen",
    [
        Observation([1.0], ["HTTP 500"]),
        Observation(),
        Observation([1.0, 3.5]),
        Observation([3.5, 3.6], began_at=1.0, ended_at=3.7),
        Observation([1.0, 1.1], began_at=0.9, ended_at=3.5),
    ],
    ids=["failed", "never answered", "not answered for long", "late at first", "not answered in the end"],
)
def test_bystanders_must_be_answered_all_the_time(seen: Observation) -> None:
    (problem,) = problems_of(run(bystanders={"livez": seen}), 10.0)
    assert problem.startswith("livez ")


def test_what_is_held_may_grow_by_two() -> None:
    assert problems_of(run(residue_after={"tasks": 11, "used slots": 0}), 10.0) == []
    assert problems_of(run(residue_after={"tasks": 12, "used slots": 0}), 10.0) == [
        "afterwards the service holds 12 tasks instead of 9"
    ]


def test_what_must_be_given_back_may_not_grow_by_one_nor_hide_in_what_was_before() -> None:
    leaked = {"tasks": 9, "used slots": 1}
    problems = ["afterwards the service holds 1 used slots instead of 0"]
    assert problems_of(run(residue_after=leaked), 10.0) == problems
    assert problems_of(run(residue_before=leaked, residue_after=leaked), 10.0) == problems


@pytest.mark.parametrize(("again_s", "found"), [(1.0, 0), (None, 1)])
def test_an_error_that_may_be_has_to_say_when_to_ask_again(again_s: float | None, found: int) -> None:
    good = run(expected=Expectation(client_errors=frozenset({"X"})))
    good.ledger.finished(good.ledger.sent("l", "rest"), Reply("refused", 503, "X", retry_after_s=again_s))
    assert len(problems_of(good, 10.0)) == found


def test_a_scenario_that_should_find_a_node_without_writes_has_to_find_one() -> None:
    expected = Expectation(finds_read_only=True)
    (problem,) = problems_of(run(expected=expected), 10.0)
    assert problem.startswith("no write was sent")
    assert problems_of(run(expected=expected, server_errors=[ServerError(9.5, "a", "25006")]), 10.0) == []


@pytest.mark.parametrize(("at", "sqlstate", "found"), [(11.5, "25006", 1), (10.5, "25006", 0), (11.5, "57P01", 0)])
def test_a_second_after_a_promotion_nothing_is_written_to_another_node(at: float, sqlstate: str, found: int) -> None:
    errors = [ServerError(at, "a", sqlstate)]
    assert len(problems_of(run(server_errors=errors), 10.0)) == found


def test_errors_are_read_from_the_logs_of_all_nodes(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    lines = {
        "a": ["[1] 25006 ERROR:  cannot execute UPDATE in a read-only transaction", "[1] 00000 LOG:  ready"],
        "b": ["[2] 57P01 FATAL:  terminating connection due to administrator command", "a line without a head"],
    }
    stamp = now.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    for node, texts in lines.items():
        (tmp_path / "nodes" / node).mkdir(parents=True)
        (tmp_path / "nodes" / node / "server.log").write_text("".join(f"{stamp} UTC {text}\n" for text in texts))
    lab = cast("Lab", SimpleNamespace(folder=tmp_path, node_names=("a", "b")))
    assert seen(server_errors(lab, since=time.monotonic() - 60)) == {("a", "25006"), ("b", "57P01")}
    assert server_errors(lab, since=time.monotonic() + 60) == []


def seen(errors: Sequence[ServerError]) -> set[tuple[str, str]]:
    assert all(abs(error.at - time.monotonic()) < 60 for error in errors)
    return {(error.node, error.sqlstate) for error in errors}
