"""What every test of the repository may use, and what no run of it may hide."""

import os

import pytest

pytest_plugins = ["api_server.testing", "sequencer_process"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> object:
    """Fail a skipped test where skips are forbidden: a check that did not run has not passed."""
    report = yield
    if os.environ.get("FORBID_SKIPS") and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and FORBID_SKIPS is set: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> object:
    """Fail a module that skips itself as a whole, likewise."""
    report = yield
    if os.environ.get("FORBID_SKIPS") and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped, and FORBID_SKIPS is set: {report.longrepr}"
    return report
