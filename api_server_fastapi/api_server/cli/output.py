"""What a command says: its report on stdout, what went wrong on stderr, and no secret on either."""

import re
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

# Up to the last @ of the word: a password that is not escaped may hold any sign.
_USER_INFO = re.compile(r"(?<=://)\S*@")
_PARAMETER = re.compile(r"(?<=[?&\s])((?:ssl)?password|passwd|pwd|token|secret)=[^&\s]+", re.IGNORECASE)
_HIDDEN = "…@"

# Wide enough that no line is broken where a program reads it.
_UNLIMITED = 10_000


def without_user_info(text: str) -> str:
    """Return a text whose URLs say nothing of who logs in by which password."""
    return _PARAMETER.sub(r"\1=…", _USER_INFO.sub(_HIDDEN, text))


def holds_login(value: str) -> bool:
    """Whether the value of a setting is a URL by which somebody logs in."""
    return "://" in value and ("@" in value or value != without_user_info(value))


def tell(sentence: str) -> None:
    """Say something on stderr."""
    typer.echo(without_user_info(sentence), err=True)


def console() -> "Console":
    """Return where reports are printed: in colours on a terminal, and literally what they are given."""
    from rich.console import Console  # noqa: PLC0415 - few commands print

    made = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
    if not made.is_terminal:
        made.width = _UNLIMITED
    return made
