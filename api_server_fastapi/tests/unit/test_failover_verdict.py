import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from api_server.testing.failover import Ledger, Request, Row, Verdict, verdict


def asked(key: str, at: float, finished: float | None, outcome: Any = "acknowledged", **more: Any) -> Request:
    code = None if outcome == "acknowledged" else more.pop("code", "STORAGE_UNAVAILABLE")
    answer = more.pop("answer", f"plan of {key}") if outcome == "acknowledged" else None
    return Request(
        key=key,
        face="rest",
        attempt=1,
        due_at=more.pop("due_at", at),
        sent_at=at,
        finished_at=finished,
        outcome=outcome,
        code=code,
        answer=answer,
    )


@pytest.fixture
def judge(tmp_path: Path) -> Any:
    def judged(requests: list[Request], rows: list[Row], **moments: Any) -> Verdict:
        file = tmp_path / "ledger.jsonl"
        file.write_text("".join(json.dumps(asdict(request)) + "\n" for request in requests))
        return verdict(Ledger.read(file), rows, **moments)

    return judged


REQUESTS = [asked(key, 1.0, 1.1) for key in ("k", "l", "m")]
ROWS = [Row(key, f"plan of {key}") for key in ("k", "l", "m")]


def test_nothing_is_wrong_where_each_acknowledged_write_is_there_once(judge: Any) -> None:
    judged = judge(REQUESTS, ROWS)
    assert (judged.acknowledged, judged.lost, judged.doubled, judged.phantom) == (3, (), (), ())


def test_a_dropped_row_is_a_loss(judge: Any) -> None:
    assert judge(REQUESTS, ROWS[1:]).lost == ("k",)


def test_a_row_that_was_made_anew_does_not_hide_a_loss(judge: Any) -> None:
    assert judge(REQUESTS, [Row("k", "another plan"), *ROWS[1:]]).lost == ("k",)


def test_a_second_row_of_a_key_is_a_double(judge: Any) -> None:
    assert judge(REQUESTS, [*ROWS, Row("l", "another plan")]).doubled == ("l",)


def test_a_key_that_was_answered_with_two_different_things_is_a_double(judge: Any) -> None:
    requests = [*REQUESTS, asked("l", 2.0, 2.1, answer="another plan")]
    assert judge(requests, ROWS).doubled == ("l",)


def test_the_same_answer_again_is_no_double(judge: Any) -> None:
    judged = judge([*REQUESTS, asked("l", 2.0, 2.1)], ROWS)
    assert (judged.doubled, judged.lost, judged.acknowledged) == ((), (), 3)


def test_a_refused_write_that_is_there_is_a_phantom(judge: Any) -> None:
    assert judge([*REQUESTS, asked("n", 2.0, 2.1, "refused")], [*ROWS, Row("n", "x")]).phantom == ("n",)


@pytest.mark.parametrize("outcome", ["acknowledged", "unknown"])
def test_a_refused_write_that_was_asked_again_is_no_phantom(judge: Any, outcome: str) -> None:
    requests = [asked("n", 2.0, 2.1, "refused"), asked("n", 2.2, 2.3, outcome, answer="x")]
    assert judge(requests, [Row("n", "x")]).phantom == ()


@pytest.mark.parametrize("rows", [[], [Row("n", "x")]])
def test_a_write_of_which_nothing_is_known_may_be_there_or_not(judge: Any, rows: list[Row]) -> None:
    judged = judge([asked("n", 2.0, None, "unknown")], rows)
    assert (judged.lost, judged.doubled, judged.phantom) == ((), (), ())


def test_rows_without_an_answer_stand_for_any(judge: Any) -> None:
    assert judge(REQUESTS, [Row("k"), Row("l")]).lost == ("m",)


def test_errors_are_counted_by_their_code(judge: Any) -> None:
    requests = [
        *REQUESTS,
        asked("n", 2.0, 2.1, "refused"),
        asked("o", 2.0, 2.1, "refused"),
        asked("p", 2.0, 2.1, "unknown", code="ConnectError"),
    ]
    judged = judge(requests, ROWS)
    assert judged.errors == {"STORAGE_UNAVAILABLE": 2, "ConnectError": 1}
    assert judged.client_errors == 3


ACKNOWLEDGED = [asked(str(at), at - 0.05, at) for at in (1.0, 1.1, 1.2, 3.2, 3.3, 4.0, 4.1)]


def test_a_window_goes_from_the_last_acknowledgement_before_to_the_first_after(judge: Any) -> None:
    assert judge(ACKNOWLEDGED, [], disturbed_at=[1.25, 3.35]).windows_ms == (2000.0, 700.0)


def test_a_window_holds_an_answer_that_was_under_way_when_it_began(judge: Any) -> None:
    assert judge(ACKNOWLEDGED, [], disturbed_at=[1.15]).windows_ms == (2000.0,)


def test_an_outage_that_lasts_over_the_next_disturbance_is_in_both_windows(judge: Any) -> None:
    assert judge(ACKNOWLEDGED, [], disturbed_at=[1.25, 2.2]).windows_ms == (1000.0, 2000.0)


def test_an_outage_without_an_end_lasts_until_the_last_request(judge: Any) -> None:
    requests = [*ACKNOWLEDGED, asked("n", 9.0, 9.1, "refused")]
    judged = judge(requests, [], disturbed_at=[4.2], accepting_at=[5.0])
    assert (judged.windows_ms, judged.first_ack_ms) == ((5000.0,), (None,))


def test_the_first_acknowledgement_after_a_promotion_is_the_next_one(judge: Any) -> None:
    assert judge(ACKNOWLEDGED, [], accepting_at=[3.0, 3.9]).first_ack_ms == (200.0, 100.0)


def test_gaps_and_slow_answers_are_measured(judge: Any) -> None:
    judged = judge([*ACKNOWLEDGED, asked("slow", 1.0, 5.0, "refused")], [])
    assert (judged.longest_gap_ms, judged.slowest_ms) == (2000.0, 4000.0)


def test_who_is_asked_late_has_waited_since_the_request_was_due(judge: Any) -> None:
    assert judge([asked("late", 3.0, 3.1, due_at=1.0)], []).slowest_ms == 2100.0


def test_the_rate_is_that_at_which_was_asked(judge: Any) -> None:
    assert judge(ACKNOWLEDGED, []).rate_per_s == round(6 / 3.1, 1)


def test_a_row_that_nobody_asked_for_is_told(judge: Any) -> None:
    assert judge(REQUESTS, [*ROWS, Row("stranger", "x")]).unasked == ("stranger",)
