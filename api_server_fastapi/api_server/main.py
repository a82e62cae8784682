"""`api-server`: serves the application that `API_SERVER_APP` names."""

from pathlib import Path
from typing import Annotated

import typer

from api_server.exceptions import StartError
from api_server.settings import Settings, get_settings, load_env_file, override_environment, read_settings

cli = typer.Typer(add_completion=False, no_args_is_help=False, pretty_exceptions_enable=False)


@cli.callback(invoke_without_command=True)
def api_server(  # noqa: PLR0917 - typer makes options of them
    context: typer.Context,
    app: Annotated[str | None, typer.Option(help="The application, as module:attribute.")] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that answer.")] = None,
    reload: Annotated[bool | None, typer.Option(help="Start again when a source file changes.")] = None,
    env_file: Annotated[Path | None, typer.Option(help="Variables to read; those that are set win.")] = None,
) -> None:
    """Serve an application on the foundation; without a command, that is what this does."""
    # By the environment, because reload and worker children read their settings from it.
    flags = {
        "API_SERVER_APP": app,
        "UVICORN_HOST": host,
        "UVICORN_PORT": port,
        "UVICORN_WORKERS": workers,
        "UVICORN_RELOAD": reload,
    }
    override_environment({name: str(value) for name, value in flags.items() if value is not None})
    if env_file is not None:
        load_env_file(env_file)
    if context.invoked_subcommand is None:
        run()


@cli.command()
def run() -> None:
    """Serve until SIGINT or SIGTERM."""
    # Imported here, so that `--help` and the processes that only import this file do not wait for a web framework.
    from api_server.app import selected_application  # noqa: PLC0415
    from api_server.logging import configure_logging  # noqa: PLC0415
    from api_server.server import UvicornServerConfig, exit_on_signals, listening, serve  # noqa: PLC0415

    exit_on_signals()
    read_settings(Settings, UvicornServerConfig)
    read_settings(Settings, UvicornServerConfig, *selected_application().settings)
    configure_logging(get_settings().log_level, get_settings().log_format)
    config = UvicornServerConfig()
    with listening(config) as listener:
        serve("api_server.app:create_selected_app", config, listener)


def main() -> None:
    """Run the command line; a start that fails is told in sentences and exits with status 2."""
    try:
        cli()
    except StartError as error:
        typer.echo(str(error), err=True)
        raise SystemExit(2) from error
