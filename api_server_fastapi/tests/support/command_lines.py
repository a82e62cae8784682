"""The command lines, each as a process of its own, or in the test's."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from api_server import environment as process_environment
from api_server.cli.app import app as admin
from api_server.main import cli as server
from api_server.services.di import forget_application
from api_server.settings import get_settings
from api_server.testing import clean_environment
from typer.testing import CliRunner, Result

SUPPORT = Path(__file__).parent

_HERE = {"api-server": server, "api-server-cli": admin}


def run_command(command: str, /, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that nobody watches, in a clean environment, which finds the applications of this folder."""
    return subprocess.run(
        [program(command), *arguments],
        env=clean_environment(PYTHONPATH=str(SUPPORT), **environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def program(command: str) -> Path:
    """Return where a command line of this environment is installed."""
    return Path(sys.executable).with_name(command)


def run_here(command: str, /, *arguments: str, **environment: str) -> Result:
    """Run a command in this process, in a clean environment, and put back what it changes."""
    with pytest.MonkeyPatch.context() as patch, logging_as_it_was():
        patch.setattr(os, "environ", clean_environment(**environment))
        patch.setattr(process_environment, "_SOURCES", {})
        get_settings.cache_clear()
        try:
            return CliRunner().invoke(_HERE[command], arguments)
        finally:
            get_settings.cache_clear()
            forget_application()


@contextmanager
def logging_as_it_was() -> Iterator[None]:
    """Put back what a command line that runs in this process says of logging."""
    configuration, root = structlog.get_config(), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        structlog.configure(**configuration)
        root.handlers[:] = handlers
        root.setLevel(level)
