"""The one shape of error answers does not depend on Python's version, and carries whatever a client sent."""

import json

import pytest
from api_server.problem_details import problem_response


@pytest.mark.parametrize(
    ("status", "title", "code"),
    [
        (404, "Not Found", "NOT_FOUND"),
        (413, "Content Too Large", "CONTENT_TOO_LARGE"),
        (418, "I'm a Teapot", "I_M_A_TEAPOT"),
        (422, "Unprocessable Content", "UNPROCESSABLE_CONTENT"),
        (499, "Unknown Error", "UNKNOWN_ERROR"),
    ],
)
def test_title_and_code_follow_from_the_status(status: int, title: str, code: str) -> None:
    problem = json.loads(bytes(problem_response(status, "why").body))
    assert problem == {"type": "about:blank", "title": title, "status": status, "detail": "why", "code": code}


def test_half_a_surrogate_pair_is_answered_too() -> None:
    assert json.loads(bytes(problem_response(422, "\ud800 should be text").body))["detail"] == "\ud800 should be text"
