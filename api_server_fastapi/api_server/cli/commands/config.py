"""`config`: the settings as they are, for a program or for another environment to read."""

from typing import Annotated

import typer

app = typer.Typer(subcommand_metavar="")


@app.callback(invoke_without_command=True)
def config(*, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Print every setting as lines that --env-file reads; secrets are left out."""
    # Imported here, because help waits for no settings.
    from api_server.cli.checked_application import checked_application  # noqa: PLC0415
    from api_server.cli.effective_settings import (  # noqa: PLC0415
        as_env_file,
        as_json_object,
        effective_settings,
        settings_classes,
    )
    from api_server.server import UvicornServerConfig  # noqa: PLC0415

    application = checked_application(UvicornServerConfig)
    settings = effective_settings(settings_classes(application))
    typer.echo(as_json_object(settings) if as_json else as_env_file(settings))
