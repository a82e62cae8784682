"""Whether a secret is seen where others look: in what a test or a service writes."""
# ruff: noqa: SLF001 - pytest repeats what one phase wrote in the next one's report, from a list of its own

import secrets
from collections.abc import Iterable, Iterator

import pytest

from api_server.testing.guards.guard import Guard
from api_server.testing.processes import STARTED

_SECRET = pytest.StashKey[str]()
_MASK = "***"


@pytest.fixture(scope="session")
def marker_secret(pytestconfig: pytest.Config) -> str:
    """Give what looks like a password, is this session's alone, and must not be seen in what anybody writes."""
    return pytestconfig.stash.setdefault(_SECRET, f"pw-{secrets.token_hex(12)}")


class SecretGuard(Guard):
    """Searches what tests and the services that they start write for the value of `marker_secret`.

    What pytest is about to show of it is masked.
    """

    name = "secret"

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def end(self, request: pytest.FixtureRequest) -> Iterable[str]:
        for service in request.node.stash.get(STARTED, []):
            command = " ".join(map(str, service.command))
            yield from self._seen_in(service.log, f"the output of the process {command}")

    def look_at(self, item: pytest.Item, report: pytest.TestReport, *, is_guarded: bool) -> None:
        """Mask the secret in a report, and fail it for sections in which it stands."""
        secret = self._config.stash.get(_SECRET, None)
        if secret is None:
            return
        found = [text for title, content in report.sections for text in self._seen_in(content, title)]
        report.sections = [(title, content.replace(secret, _MASK)) for title, content in report.sections]
        item._report_sections = [(when, key, text.replace(secret, _MASK)) for when, key, text in item._report_sections]
        if not report.skipped and secret in (told := report.longreprtext):
            report.longrepr = told.replace(secret, _MASK)
        if not found or not is_guarded:
            return
        if report.failed:
            report.sections.append(("Guards", "\n\n".join(found)))
        else:
            report.outcome, report.longrepr = "failed", "\n\n".join(found)

    def _seen_in(self, text: str, title: str) -> Iterator[str]:
        secret = self._config.stash.get(_SECRET, None)
        if secret is not None and (lines := [line for line in text.splitlines() if secret in line]):
            shown = "\n".join(f"  {line.replace(secret, _MASK)}" for line in lines)
            yield f"The secret of marker_secret is seen in {_lowered(title)}:\n{shown}"


def _lowered(title: str) -> str:
    return title[:1].lower() + title[1:]
