"""What `doctor` finds out about the environment that it runs in."""

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from api_server.application import Application, load_application
from api_server.cli.application_commands import CommandClashError, commands_of
from api_server.cli.database_findings import database_findings
from api_server.cli.effective_settings import EffectiveSetting, effective_settings, settings_classes
from api_server.cli.findings import foundation_findings
from api_server.cli.identity_findings import provider_findings
from api_server.cli.output import console, without_user_info
from api_server.environment import value_of
from api_server.exceptions import SettingsError, StartError
from api_server.findings import Finding
from api_server.foundation import FOUNDATION
from api_server.logging import configure_logging
from api_server.server import UvicornServerConfig
from api_server.settings import Settings, get_settings, read_settings

_STYLES = {"error": "bold red", "warning": "yellow"}


@dataclass(frozen=True, slots=True)
class Examination:
    """Every setting of an application, and what is wrong with them, errors first."""

    application: Application
    settings: Sequence[EffectiveSetting]
    findings: Sequence[Finding]

    def exit_status(self, *, strict: bool) -> int:
        """Return 1 where there is an error, or with `strict` anything at all; else 0."""
        return int(self._number_of("error") > 0 or (strict and len(self.findings) > 0))

    def show(self) -> None:
        """Print the settings, the findings, and a line that sums up."""
        out = console()
        out.print(_table(self.settings))
        out.print()
        for finding in self.findings:
            out.print(_line(finding))
        counts = f"errors: {self._number_of('error')}, warnings: {self._number_of('warning')}"
        out.print(f"{self.application.name} {self.application.version}: {counts}")

    def _number_of(self, severity: str) -> int:
        return sum(finding.severity == severity for finding in self.findings)


def examine() -> Examination:
    """Look at everything that can be looked at, whatever is wrong with the rest."""
    configure_logging("WARNING")
    found, failure = _application()
    application = found or FOUNDATION
    problems = _problems_of(application)
    # A name that is malformed is told already.
    if failure and not any(problem.startswith("API_SERVER_APP ") for problem in problems):
        problems = [failure, *problems]
    findings = [Finding("error", (), problem) for problem in problems]
    if found is not None:
        findings += [*_clashes(found), *_of_the_foundation(found)]
    # These read any setting, and would trip over a malformed one.
    if found is not None and not problems:
        findings += [*found.findings(), *asyncio.run(provider_findings(get_settings()))]
        findings += asyncio.run(database_findings(found))
    settings = list(effective_settings(settings_classes(application)))
    return Examination(application, settings, sorted(findings, key=lambda finding: finding.severity))


def _application() -> tuple[Application | None, str]:
    """Return the selected application, or why there is none."""
    path = value_of("API_SERVER_APP")
    if not path:
        return FOUNDATION, ""
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", path):
        return None, f"API_SERVER_APP names {path}, which is no module:attribute."
    try:
        return load_application(path), ""
    except StartError as error:
        return None, str(error)


def _problems_of(application: Application) -> list[str]:
    """Return a sentence for each variable that is malformed or unknown."""
    classes = settings_classes(application)
    questions: tuple[Callable[[], object], ...] = (lambda: read_settings(*classes), application.active_profiles)
    return list(dict.fromkeys(problem for question in questions for problem in _problems(question)))


def _problems(question: Callable[[], object]) -> Sequence[str]:
    try:
        question()
    except SettingsError as error:
        return error.problems
    return ()


def _clashes(application: Application) -> Iterator[Finding]:
    try:
        commands_of(application)
    except CommandClashError as error:
        yield Finding("error", (), str(error))


def _of_the_foundation(application: Application) -> Sequence[Finding]:
    try:
        return list(foundation_findings(application, Settings(), UvicornServerConfig()))
    except ValidationError:
        return ()


def _table(settings: Sequence[EffectiveSetting]) -> Table:
    table = Table("variable", "value", "source", box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    for setting in settings:
        table.add_row(setting.variable, setting.shown, setting.source)
    return table


def _line(finding: Finding) -> Text:
    variables = f"{', '.join(finding.variables)}: " if finding.variables else ""
    severity = (f"{finding.severity:<7}", _STYLES[finding.severity])
    return Text.assemble(severity, "  ", without_user_info(variables + finding.sentence))
