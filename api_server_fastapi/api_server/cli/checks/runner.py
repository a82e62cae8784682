"""Runs a pipeline once, in a process that does nothing else, and prints what it found."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from rich.text import Text

from api_server.cli.output import console, without_user_info
from api_server.readiness_pipeline import (
    CheckStatus,
    ReadinessCheckResult,
    ReadinessPipeline,
    ReadinessReport,
    ReadinessState,
)

_STYLES = {
    CheckStatus.SUCCESS: "green",
    CheckStatus.WARNING: "yellow",
    CheckStatus.FAILED: "bold red",
}
_WIDEST = max(map(len, CheckStatus))


def run_checks(pipeline: ReadinessPipeline, *closing: Callable[[], Awaitable[None]]) -> ReadinessState:
    """Run a pipeline, print a line for each check and one for all, and return the state that they add up to.

    What it used, an engine above all, is given up by `closing`, in this order.
    """
    report = asyncio.run(_report(pipeline, closing))
    out = console()
    for stage in report.stages:
        for result in stage.results:
            out.print(_line(result))
    out.print(f"{report.state} after {report.duration_ms:.0f} ms")
    return report.state


async def _report(pipeline: ReadinessPipeline, closing: tuple[Callable[[], Awaitable[None]], ...]) -> ReadinessReport:
    async with AsyncExitStack() as after:
        for close in reversed(closing):
            after.push_async_callback(close)
        return await pipeline.run()


def _line(result: ReadinessCheckResult) -> Text:
    # An operator asks: the details are theirs.
    details = ", ".join(f"{name}: {value}" for name, value in result.details.items())
    told = f"{result.name}: {result.message}" + (f" ({details})" if details else "")
    status = (f"{result.status:<{_WIDEST}}", _STYLES.get(result.status, "dim"))
    return Text.assemble(status, "  ", without_user_info(told))
