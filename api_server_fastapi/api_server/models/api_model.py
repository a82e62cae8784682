"""What clients give and see: shapes of their own, so that a table may change and what is promised does not."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from sqlmodel import SQLModel

from api_server.models.base_model import Kind, Name, PresetBase
from api_server.models.db_model import Preset
from api_server.validation import few_fields

MOST_VERSIONS = 2**31 - 1
"""How far PostgreSQL and GraphQL count."""

MOST_IN_PAGE = 100

Document = Annotated[dict[str, Any], Field(description="What is kept: an object that fits the kind.")]
Version = Annotated[int, Field(ge=1, le=MOST_VERSIONS, description="How often it was written.")]

_EXAMPLE: dict[str, JsonValue] = {"kind": "theme", "name": "dark", "document": {"background": "#000000"}}


class PresetCreate(PresetBase):
    """A preset to be kept."""

    model_config = {  # noqa: RUF012 - pydantic's, which copies it
        "strict": True,
        "extra": "forbid",
        "json_schema_extra": {"example": _EXAMPLE},
    }

    document: Document

    _is_small = model_validator(mode="before")(few_fields)


class PresetRead(SQLModel):
    """A preset as it is kept, whatever rules names had when it was."""

    kind: str
    name: str
    id: UUID
    document: Document
    owner_id: str = Field(description="Who created it.")
    version: Version
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, preset: Preset) -> "PresetRead":
        """Show a row of the table, and of its columns these alone."""
        return cls(**{name: getattr(preset, name) for name in cls.model_fields})


class PresetReplace(SQLModel):
    """A preset as it was read, with another name or document.

    Of what cannot be changed nothing needs to be repeated; `id` and `kind` should be right where they are.
    """

    model_config = {
        "strict": True,
        "extra": "forbid",
        "json_schema_extra": {"example": {**_EXAMPLE, "version": 1}},
    }

    name: Name
    document: Document
    version: Version | None = Field(default=None, description="The version that was read, else `If-Match` says it.")
    id: Annotated[UUID, Field(strict=False)] | None = None
    kind: Kind | None = None
    owner_id: str | None = None
    created_at: Annotated[datetime, Field(strict=False)] | None = None
    updated_at: Annotated[datetime, Field(strict=False)] | None = None

    _is_small = model_validator(mode="before")(few_fields)


class PresetDelete(BaseModel):
    """Which version is to be deleted."""

    model_config = ConfigDict(strict=True, extra="forbid")

    version: Version | None = None

    _is_small = model_validator(mode="before")(few_fields)


class PresetPage(BaseModel):
    """Some presets, oldest first."""

    items: list[PresetRead]
    next_cursor: str | None = Field(description="The `cursor` of the next page; null where there are no more.")


class PresetQuery(BaseModel):
    """Which presets are listed; a parameter that does not exist is an error, not overlooked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    limit: int = Field(default=20, ge=1, le=MOST_IN_PAGE, description="How many a page holds.")
    cursor: str | None = Field(default=None, description="The `next_cursor` of an earlier page.")
    owner: str | None = Field(
        default=None,
        description="Whose alone, `*` for everybody's; by default yours and the default one. Others' need `admin`.",
    )
