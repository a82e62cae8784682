"""`doctor`: the settings as they are, where each comes from, and what is wrong with them."""

from typing import Annotated

import typer

app = typer.Typer(subcommand_metavar="")


@app.callback(invoke_without_command=True)
def doctor(
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings too.")] = False,
) -> None:
    """Show every setting with its source, and what is wrong: 1 for errors, else 0."""
    from api_server.cli.examination import examine  # noqa: PLC0415 - help waits for no settings

    examination = examine()
    examination.show()
    raise typer.Exit(examination.exit_status(strict=strict))
