"""What tables and the API share: fields with their rules, identifiers, the time."""

import re
from datetime import datetime
from typing import Annotated
from uuid import UUID

import arrow
from pydantic import AfterValidator, StringConstraints
from sqlmodel import SQLModel

from api_server.identifiers import uuid7

DEFAULT_NAME = "default"
"""The name of the preset of a kind that is the whole service's, and not one user's."""

_KIND = r"^[a-z][a-z0-9_]{0,62}$"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def _uuid7() -> UUID:
    """Make an identifier that sorts after every one that was made before."""
    return uuid7()


def _utcnow() -> datetime:
    """Return the time, aware of its zone."""
    now: datetime = arrow.utcnow().datetime
    return now


def _is_printable(value: str) -> str:
    if _UNPRINTABLE.search(value):
        raise ValueError("should hold no control characters and no halves of a character")
    if value != value.strip():
        raise ValueError("should neither begin nor end with a space")
    return value


Kind = Annotated[str, StringConstraints(pattern=_KIND)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_is_printable)]


class PresetBase(SQLModel):
    """What a preset is called: its kind says which documents it may hold, its name is unique there for its owner."""

    kind: Kind
    name: Name
