"""How a command line ends: by a status that means something, and never by a traceback for what a user can do wrong."""

import errno
import io
import os
import sys
from collections.abc import Callable

import typer

from api_server.cli.output import tell
from api_server.exceptions import StartError

# What a full disk, a closed descriptor or a broken one make of the output.
_UNWRITABLE = {errno.ENOSPC, errno.EBADF, errno.EIO}


def run_command_line(app: Callable[[], object]) -> None:
    """Run a command line; a start that fails is told in sentences and exits with status 2.

    Typer exits with 2 where the command line itself is wrong, with 130 after Ctrl-C and with 1 where nobody reads on.
    """
    for stream in (sys.stdout, sys.stderr):
        # A variable may hold bytes that are no text, and are shown all the same.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except StartError as error:
        tell(str(error))
        raise SystemExit(2) from error
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        # What is left in the buffer would fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        typer.echo(f"The output cannot be written: {error.strerror}.", err=True)
        raise SystemExit(1) from error
