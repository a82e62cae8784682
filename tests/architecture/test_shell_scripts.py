"""Shell scripts are portable, and quote what they are given."""

import subprocess
import sys
from pathlib import Path

import pytest
from sequencer_process import ROOT

SHELLCHECK = Path(sys.executable).with_name("shellcheck")
SCRIPTS = [
    file
    for folder in ("scripts", ".ci", "testing_payloads")
    for file in sorted((ROOT / folder).iterdir())
    if file.read_bytes().startswith(b"#!/bin/sh\n")
]


def test_there_are_scripts_to_check() -> None:
    assert {script.name for script in SCRIPTS} >= {"run", "setup", "lock", "gql_curl.sh"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    done = subprocess.run([SHELLCHECK, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_stops_at_the_first_error(script: Path) -> None:
    assert "\nset -eu\n" in script.read_text()
