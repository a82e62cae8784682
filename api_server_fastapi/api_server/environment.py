"""The process's environment: where every setting comes from, and how files and flags get into it."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from api_server.exceptions import StartError

# What a variable was set to here, and where that came from, by its upper-case name.
_SOURCES: dict[str, tuple[str, str]] = {}


def comma_separated(value: Any) -> Any:  # noqa: ANN401 - whatever the environment holds
    """Read `a,b` as two values; a field of them is annotated with `NoDecode` and `BeforeValidator` of this."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def value_of(variable: str) -> str:
    """Return a variable's value, whatever the case that its name is spelled in; empty where it is not set."""
    return next((value for name, value in os.environ.items() if name.upper() == variable and value), "")


def source_of(variable: str) -> str | None:
    """Return where a variable's value comes from: `environment`, a file, a flag; None where it is not set."""
    if not (value := value_of(variable.upper())):
        return None
    set_here, source = _SOURCES.get(variable.upper(), ("", ""))
    return source if value == set_here else "environment"


def load_env_file(path: Path) -> None:
    """Read an env file into the process's environment, where what is already set wins.

    Reload and worker children inherit it, so that every process of a service sees the same values. Raises StartError
    where the file cannot be read.
    """
    present = {name.upper() for name, value in os.environ.items() if value}
    for name, value in _parsed(path).items():
        if value and name.upper() not in present:
            if "=" in name or "\0" in name + value:
                raise StartError(f"The env file {path} has a name or a value that no variable can have: {name!r}.")
            override_environment({name: value}, source=str(path))


def override_environment(values: Mapping[str, str], *, source: str = "environment") -> None:
    """Set variables for this process and its children, whatever the case they were spelled in before."""
    replaced = {name.casefold() for name in values}
    for name in [name for name in os.environ if name.casefold() in replaced]:
        del os.environ[name]
    os.environ.update(values)
    _SOURCES.update({name.upper(): (value, source) for name, value in values.items()})


def _parsed(path: Path) -> Mapping[str, str | None]:
    from dotenv import dotenv_values  # noqa: PLC0415 - few commands read a file
    from dotenv.parser import parse_stream  # noqa: PLC0415 - as above

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise StartError(f"The env file {path} does not exist.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"The env file {path} cannot be read: {error}.") from error
    for line in parse_stream(io.StringIO(text)):
        if line.error or (line.key is not None and line.value is None):
            raise StartError(f"The env file {path} has no NAME=value in line {line.original.line}.")
    return dotenv_values(stream=io.StringIO(text), interpolate=False)
