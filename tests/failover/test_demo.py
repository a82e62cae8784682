"""`make demo-failover` shows what it promises: nothing lost, and then what is lost where it is done wrong."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from api_server.testing import clean_environment

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_pipe_gets_both_acts_line_by_line(tmp_path: Path) -> None:
    record = tmp_path / "demo.txt"
    done = subprocess.run(
        [sys.executable, "-m", "bench.failover", "demo", "--record", record],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    right, wrong = re.findall(r"(\d+) plans acknowledged, (\d+) lost", done.stdout)
    assert int(right[0]) > 100
    assert int(right[1]) == 0
    assert int(wrong[1]) > 0
    assert record.read_text() == done.stdout
    assert "make demo-failover" in (ROOT / "README.md").read_text()
