"""`api-server-cli`: administers the application that `API_SERVER_APP` names, without serving it."""

from pathlib import Path
from typing import Annotated

import typer

from api_server.cli.application_commands import AdminGroup
from api_server.cli.commands import config, db, doctor, lab, user
from api_server.cli.entry import run_command_line
from api_server.environment import load_env_file, override_environment

app = typer.Typer(cls=AdminGroup, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(db.app, name="db")
app.add_typer(doctor.app, name="doctor")
app.add_typer(config.app, name="config")
app.add_typer(lab.app, name="lab")
app.add_typer(user.app, name="user")


def _use_app(path: str | None) -> str | None:
    if path is not None:
        override_environment({"API_SERVER_APP": path}, source="--app")
    return path


def _use_env_file(path: Path | None) -> Path | None:
    if path is not None:
        load_env_file(path)
    return path


# Both are eager: which commands there are, and so what `--help` lists, depends on them.
@app.callback()
def api_server_cli(
    app: Annotated[
        str | None, typer.Option(help="The application, as module:attribute.", is_eager=True, callback=_use_app)
    ] = None,
    env_file: Annotated[
        Path | None,
        typer.Option(help="Variables to read; those that are set win.", is_eager=True, callback=_use_env_file),
    ] = None,
) -> None:
    """Administer an application on the foundation: its database, its settings, and what it offers itself."""


def main() -> None:
    """Run the command line."""
    run_command_line(app)
