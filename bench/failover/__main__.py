"""`python -m bench.failover report | demo`: failovers of the sequencer, for a file or for an audience."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from bench.failover.scenarios import SCENARIOS

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.command()
def report(
    only: Annotated[list[str] | None, typer.Argument(help="Names of scenarios; all of them, if none is given.")] = None,
    *,
    runs: Annotated[int, typer.Option(min=1, help="How often each scenario happens.")] = 2,
    seed: Annotated[int, typer.Option(help="That of the first run; each further one has the next.")] = 1,
) -> None:
    """Have every scenario happen; write bench/results/failover.json, docs/failover.md and docs/failover.png.

    The exit status is 1 where a target is missed or a scenario did not end as it should.
    """
    from bench.failover import report as reporting  # noqa: PLC0415 - it draws, which only `make bench` installs

    if unknown := sorted(set(only or ()) - set(SCENARIOS)):
        raise typer.BadParameter(f"there is no scenario {', '.join(unknown)}, but {', '.join(SCENARIOS)}")
    raise typer.Exit(min(reporting.report(runs, seed, only or ()), 1))


@app.command()
def demo(
    *,
    record: Annotated[Path | None, typer.Option(help="A file to write the lines to, without colours.")] = None,
    seed: Annotated[int, typer.Option(help="Repeats the same keys and moments.")] = 1,
) -> None:
    """Write for half a minute while the database fails over: nothing is lost. Then the same done wrong."""
    from bench.failover.demo import perform_demo  # noqa: PLC0415 - a report shows nothing

    raise typer.Exit(perform_demo(record, seed))


def _leave(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - the signature of a handler
    """End by an exception, as Ctrl-C does, so that what runs is ended; once, as an end that is ended leaves it."""
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


if __name__ == "__main__":
    for leaving in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(leaving, _leave)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
