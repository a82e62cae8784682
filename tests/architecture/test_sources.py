"""What no source of the product does."""

import subprocess
import sys

from sequencer_process import ROOT

PRODUCT = ["api_server_fastapi/api_server", "throttling_sequencer_fastapi/throttling_sequencer"]
# A shell, by subprocess or by os, and SQL that is put together of pieces.
RULES = "S602,S604,S605,S608"


def findings(*paths: str) -> str:
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--ignore-noqa", "--quiet", "--select", RULES]
    done = subprocess.run(
        [*command, "--output-format=concise", *paths], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout


def test_no_shell_and_no_statement_of_pieces() -> None:
    assert findings(*PRODUCT, "throttling_sequencer_fastapi/manage.py") == ""
