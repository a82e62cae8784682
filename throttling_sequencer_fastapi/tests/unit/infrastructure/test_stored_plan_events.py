"""A storm of failures is a line a second, which counts them."""

import pytest
from structlog.testing import capture_logs
from throttling_sequencer.infrastructure.stored_plan_events import LoggedStoredPlanEvents


def test_a_line_a_second_says_why_and_how_many() -> None:
    now = [100.0]
    events = LoggedStoredPlanEvents(lambda: now[0])
    with capture_logs() as lines:
        for _ in range(50):
            events.failed("STORAGE_UNAVAILABLE", "no such table")
            now[0] += 0.1
    assert [line["calls"] for line in lines] == pytest.approx([1, 10, 10, 10, 10], abs=1)
    assert {line["reason"] for line in lines} == {"no such table"}
