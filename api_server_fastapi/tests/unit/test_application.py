"""Finding the application to serve."""

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
