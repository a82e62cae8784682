"""`python -m bench.failover report | demo`: failovers of the sequencer, for a file or for an audience."""

import sys
from pathlib import Path
from typing import Annotated

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

    The exit status is 1 where a scenario did not end as it should.
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


if __name__ == "__main__":
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
