"""The commands that an application brings, found only where somebody asks for more than the built-in ones."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer
from typer.core import TyperGroup
from typer.main import get_command

from api_server.cli.output import tell
from api_server.environment import value_of
from api_server.exceptions import StartError

if TYPE_CHECKING:
    # typer has no public names for the types of what a group overrides.
    from typer._click import Command, Context

    from api_server.application import Application

BUILT_IN_COMMANDS = frozenset({"config", "db", "doctor", "lab", "user"})


class CommandClashError(StartError):
    """The application offers a command whose name is taken."""

    def __init__(self, application: str, names: list[str]) -> None:
        super().__init__(
            f"The application {application} offers the command {', '.join(names)}, which is one of the built-in ones: "
            f"{', '.join(sorted(BUILT_IN_COMMANDS))}. Give it another name in Application.commands."
        )


class AdminGroup(TyperGroup):
    """The built-in commands, and those of the application, which is not imported for a name that is built in."""

    def list_commands(self, ctx: "Context") -> list[str]:
        built_in = super().list_commands(ctx)
        try:
            return [*built_in, *sorted(_commands())]
        except CommandClashError:
            raise
        except StartError as error:
            # Whoever mistyped the application's name needs the help all the more.
            tell(str(error))
            return built_in

    def get_command(self, ctx: "Context", cmd_name: str) -> "Command | None":
        if (built_in := super().get_command(ctx, cmd_name)) is not None:
            return built_in
        if (own := _commands().get(cmd_name)) is None:
            return None
        command = get_command(own)
        # Help shows a command by its own name, which is that of its function.
        command.name = cmd_name
        return command


def commands_of(application: "Application") -> Mapping[str, typer.Typer]:
    """Return what an application offers, by name. Raises CommandClashError."""
    commands = application.commands()
    if taken := sorted(BUILT_IN_COMMANDS & commands.keys()):
        raise CommandClashError(application.name, taken)
    return commands


def _commands() -> Mapping[str, typer.Typer]:
    if not value_of("API_SERVER_APP"):
        return {}
    from api_server.foundation import selected_application  # noqa: PLC0415 - help without an application is fast

    return commands_of(selected_application())
