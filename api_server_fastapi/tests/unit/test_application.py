"""Finding the application to serve."""

from pathlib import Path

import pytest
from api_server.application import load_application
from api_server.exceptions import StartError
from api_server.foundation import FOUNDATION


def test_an_application_is_found_by_module_and_attribute() -> None:
    assert load_application("api_server.foundation:FOUNDATION") is FOUNDATION


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("no.such:APP", "whose import fails: No module named 'no'"),
        ("api_server.foundation:APP", "api_server.foundation has no Application called 'APP'"),
        ("api_server.foundation:version", "api_server.foundation has no Application called 'version'"),
    ],
)
def test_what_is_not_found_is_told_in_a_sentence(path: str, says: str) -> None:
    with pytest.raises(StartError, match=says):
        load_application(path)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("from api_server import nothing_like_it", "whose import fails: cannot import name 'nothing_like_it'"),
        ("APP = (", r"whose import fails: '\(' was never closed"),
    ],
)
def test_nor_is_a_module_that_cannot_be_imported_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, says: str
) -> None:
    (tmp_path / "unfinished.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(StartError, match=says):
        load_application("unfinished:APP")
