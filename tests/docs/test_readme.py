"""What the README says of the product as a whole; test_pages.py runs what it shows."""

import re

from configuration_table import rows
from pages import blocks
from sequencer_process import ROOT

README = ROOT / "README.md"
CALLS = [call for block in blocks(README) if block.language == "console" for call in block.calls]


def test_there_are_calls_to_try() -> None:
    assert len(CALLS) >= 6


def test_the_table_of_configuration_is_complete() -> None:
    (table,) = re.findall(r"^\| Variable \| Default .*\n\|.*\n((?:\|.*\n)+)", README.read_text(), re.MULTILINE)
    assert table.splitlines() == rows()


def test_the_json_answer_of_graphql_is_exact() -> None:
    """The masked comparison would not see a wrong number; this plan is simple enough to be always the same."""
    (shown,) = [shown for command, shown in CALLS if "{ calculateThrottleSteps(" in command]
    assert shown == '{"data":{"calculateThrottleSteps":[{"coordinate":{"x":4.0},"throttle":5}]}}\n'
