"""What the page about security claims is shown by tests that exist, and set by variables that exist."""

import re

import pytest
from api_server.settings import Settings, variables_of
from sequencer_process import ROOT
from throttling_sequencer.core.database_config import PiccoloDBConfig
from throttling_sequencer.core.settings import SequencerSettings

PAGE = (ROOT / "docs" / "security.md").read_text()
ROWS = {row[0]: row for row in re.findall(r"^\| (T\d+) \|(.*)\|(.*)\|(.*)\|(.*)\|$", PAGE, re.MULTILINE)}
TESTS = {path.name: path for path in ROOT.glob("**/tests/**/test_*.py") if ".venv" not in path.parts}
VARIABLES = {name for cls in (Settings, PiccoloDBConfig, SequencerSettings) for name in variables_of(cls)}
OF_MAKE = {"FUZZ_EXAMPLES", "FUZZ_SEED"}


def test_every_threat_has_its_row_and_at_most_two_are_refused() -> None:
    assert list(ROWS) == [f"T{number}" for number in range(1, 20)]
    assert PAGE.count("**Refused**") <= 2


@pytest.mark.parametrize("row", ROWS)
def test_what_shows_it_exists(row: str) -> None:
    named = re.findall(r"`([^`]+)`", ROWS[row][4])
    assert named
    for name in named:
        file, _, test = name.partition("::")
        assert file in TESTS, name
        assert re.search(rf"def {test}\(", TESTS[file].read_text()), name


@pytest.mark.parametrize("row", ROWS)
def test_what_sets_it_exists(row: str) -> None:
    before = ""
    for name in re.findall(r"`([A-Z_]+)`", ROWS[row][3]):
        # `API_SERVER_GRAPHQL_DEPTH`, `_FIELDS`: an end stands for what shares its beginning with the one before.
        found = {variable for variable in VARIABLES | OF_MAKE if variable == name} or {
            variable for variable in VARIABLES if name.startswith("_") and variable.endswith(name)
        }
        assert found, name
        assert not name.startswith("_") or any(variable.startswith(before[:11]) for variable in found), name
        before = name if not name.startswith("_") else before
