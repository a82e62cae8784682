"""Requests in flight get the time that is left of the whole, and no more than was set."""

import pytest
from api_server.server import UvicornServerConfig, _grace
from api_server.settings import Settings


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, 8),
        ({"ENV_TYPE": "production"}, 8),
        # The images.
        ({"ENV_TYPE": "production", "API_SERVER_LEAVE_WITHIN_S": "9"}, 4),
        ({"UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN": "2"}, 2),
        ({"UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN": "60", "API_SERVER_LEAVE_WITHIN_S": "100"}, 60),
        ({"UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN": "60", "API_SERVER_LEAVE_WITHIN_S": "10"}, 8),
    ],
)
def test_what_requests_get(environment: dict[str, str], seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _grace(UvicornServerConfig(), Settings()) == seconds
