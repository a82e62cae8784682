"""What tables and the API share: fields with their rules, identifiers, the time."""

import re
from datetime import datetime
from typing import Annotated
from unicodedata import category
from uuid import UUID

import arrow
from pydantic import AfterValidator, StringConstraints, WithJsonSchema
from sqlmodel import SQLModel

from api_server.identifiers import uuid7

DEFAULT_NAME = "default"
"""The name of the preset of a kind that is the whole service's, and not one user's."""

_KIND = "^[a-z][a-z0-9_]{0,62}$"
# Control, format and private characters, halves of characters, and what ends lines and paragraphs.
_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})


def _uuid7() -> UUID:
    """Make an identifier that sorts after every one that was made before."""
    return uuid7()


def _utcnow() -> datetime:
    """Return the time, aware of its zone."""
    now: datetime = arrow.utcnow().datetime
    return now


def _is_kind(value: str) -> str:
    if re.fullmatch(_KIND, value) is None:
        raise ValueError("should be up to 63 lower-case letters, digits and underscores, and begin with a letter")
    return value


def _is_printable(value: str) -> str:
    if any(category(character) in _INVISIBLE for character in value):
        raise ValueError("should hold no control characters, no invisible ones and no halves of a character")
    if value != value.strip():
        raise ValueError("should neither begin nor end with a space")
    return value


Kind = Annotated[str, AfterValidator(_is_kind), WithJsonSchema({"type": "string", "pattern": _KIND})]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_is_printable)]


class PresetBase(SQLModel):
    """What a preset is called: its kind says which documents it may hold, its name is unique there for its owner."""

    kind: Kind
    name: Name
