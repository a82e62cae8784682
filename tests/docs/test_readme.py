"""What the README shows is what happens."""

import re
import subprocess
from pathlib import Path

import pytest
from configuration_table import rows
from sequencer_process import ROOT, StartSequencer

README = (ROOT / "README.md").read_text()
CONSOLES = re.findall(r"^```console\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
CALLS = [call for console in CONSOLES for call in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", console, re.MULTILINE)]


def masked(text: str) -> str:
    """Leave out what differs from run to run: numbers."""
    return re.sub(r"\d+(\.\d+)?", "0", text).strip()


def test_there_are_calls_to_try() -> None:
    assert len(CALLS) >= 6


def test_each_call_answers_as_shown(start_sequencer: StartSequencer) -> None:
    sequencer = start_sequencer()
    for command, shown in CALLS:
        here = command.replace("http://127.0.0.1:8080", sequencer.url)
        done = subprocess.run(here, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
        assert masked(done.stdout) == masked(shown), command


def test_the_table_of_configuration_is_complete() -> None:
    (table,) = re.findall(r"^\| Variable \| Default .*\n\|.*\n((?:\|.*\n)+)", README, re.MULTILINE)
    assert table.splitlines() == rows()


def test_the_json_answer_of_graphql_is_exact() -> None:
    """The masked comparison would not see a wrong number; this plan is simple enough to be always the same."""
    (shown,) = [shown for command, shown in CALLS if "/graphql" in command]
    assert shown == '{"data":{"calculateThrottleSteps":[{"coordinate":{"x":4.0},"throttle":5}]}}\n'


@pytest.mark.parametrize("file", re.findall(r"\]\(([^)#]+)\)", README))
def test_every_link_leads_somewhere(file: str) -> None:
    assert (ROOT / file).exists()


@pytest.mark.parametrize("file", re.findall(r"`(configuration/[^`]+)`", README))
def test_every_env_file_that_is_named_exists(file: str) -> None:
    assert Path(ROOT / file).is_file()
