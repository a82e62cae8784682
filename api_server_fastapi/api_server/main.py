"""`api-server`: serves the application that `API_SERVER_APP` names, and administers it by `api-server cli`."""

from pathlib import Path
from typing import Annotated

import typer

from api_server.cli.app import app as admin
from api_server.cli.entry import run_command_line
from api_server.environment import load_env_file, override_environment

cli = typer.Typer(add_completion=False, no_args_is_help=False, pretty_exceptions_enable=False)
cli.add_typer(admin, name="cli")


@cli.callback(invoke_without_command=True)
def api_server(  # noqa: PLR0917 - typer makes options of them
    context: typer.Context,
    app: Annotated[str | None, typer.Option(help="The application, as module:attribute.")] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that answer.")] = None,
    reload: Annotated[bool | None, typer.Option(help="Start again when a source file changes.")] = None,
    profiles: Annotated[str | None, typer.Option(help="The faces to serve, separated by commas.")] = None,
    log_level: Annotated[str | None, typer.Option(help="Lines below this level are not written.")] = None,
    env_file: Annotated[Path | None, typer.Option(help="Variables to read; those that are set win.")] = None,
) -> None:
    """Serve an application on the foundation; without a command, that is what this does."""
    flags = {
        "--app": ("API_SERVER_APP", app),
        "--host": ("UVICORN_HOST", host),
        "--port": ("UVICORN_PORT", port),
        "--workers": ("UVICORN_WORKERS", workers),
        "--reload": ("UVICORN_RELOAD", reload),
        "--profiles": ("API_SERVER_PROFILES", profiles),
        "--log-level": ("API_SERVER_LOG_LEVEL", log_level),
    }
    for flag, (variable, value) in flags.items():
        if value == "":
            raise typer.BadParameter("should not be empty", param_hint=flag)
        if value is not None:
            # By the environment, because reload and worker children read their settings from it.
            override_environment({variable: str(value)}, source=flag)
    if env_file is not None:
        load_env_file(env_file)
    if context.invoked_subcommand is None:
        run()


@cli.command()
def run() -> None:
    """Serve until SIGINT or SIGTERM."""
    # Imported here, so that `--help` and the processes that only import this file do not wait for a web framework.
    from api_server.cli.checked_application import checked_application  # noqa: PLC0415
    from api_server.logging import configure_logging  # noqa: PLC0415
    from api_server.server import UvicornServerConfig, exit_on_signals, listening, serve  # noqa: PLC0415
    from api_server.settings import get_settings  # noqa: PLC0415
    from api_server.telemetry import require_installed  # noqa: PLC0415

    exit_on_signals()
    checked_application(UvicornServerConfig)
    # Here, where it is said once; each worker would say it again.
    require_installed(get_settings())
    configure_logging(get_settings().log_level, get_settings().log_format)
    config = UvicornServerConfig()
    with listening(config) as listener:
        serve("api_server.app:create_selected_app", config, listener)


@cli.command()
def check(
    *, strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where the service is degraded.")] = False
) -> None:
    """Run the readiness checks once, without serving: 0 where the service is operational or degraded, else 1."""
    from api_server.cli.readiness import check_readiness  # noqa: PLC0415 - as above

    raise typer.Exit(check_readiness(strict=strict))


def main() -> None:
    """Run the command line."""
    run_command_line(cli)
