from pathlib import Path

from api_server.testing.failover import Ledger, Reply


def test_what_was_not_answered_is_unknown() -> None:
    ledger = Ledger()
    ledger.sent("k", "rest")
    (request,) = ledger.requests
    assert (request.outcome, request.code, request.finished_at) == ("unknown", "NEVER_ANSWERED", None)


def test_an_answer_is_written_down_with_its_time() -> None:
    ledger = Ledger()
    number = ledger.sent("k", "rest")
    ledger.finished(number, Reply("acknowledged", 201, None, "plan-1"))
    (request,) = ledger.requests
    assert request.finished_at is not None
    assert request.finished_at >= request.sent_at
    assert (request.outcome, request.status, request.code, request.answer) == ("acknowledged", 201, None, "plan-1")
    assert ledger.acknowledgements == 1


def test_requests_of_one_key_are_counted() -> None:
    ledger = Ledger()
    for key in ("k", "l", "k"):
        ledger.sent(key, "rest")
    assert [(request.key, request.attempt) for request in ledger.requests] == [("k", 1), ("l", 1), ("k", 2)]


def test_a_ledger_that_was_written_is_read_as_it_was(tmp_path: Path) -> None:
    ledger = Ledger()
    ledger.finished(ledger.sent("k", "rest"), Reply("acknowledged", 201, None, "plan-1"))
    ledger.sent("l", "graphql")
    ledger.write(tmp_path / "ledger.jsonl")
    again = Ledger.read(tmp_path / "ledger.jsonl")
    assert again.requests == ledger.requests
    assert again.sha256 == ledger.sha256
    assert again.acknowledgements == 1


def test_two_ledgers_that_differ_have_different_hashes() -> None:
    ledger = Ledger()
    number = ledger.sent("k", "rest")
    before = ledger.sha256
    ledger.finished(number, Reply("refused", 503, "STORAGE_UNAVAILABLE"))
    assert ledger.sha256 != before
