"""The foundation's tables, in a schema of their own."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, Index, MetaData, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from api_server.models.base_model import DEFAULT_NAME, PresetBase, _utcnow, _uuid7

SCHEMA = "api_server"

# Migrations drop constraints by name, so that every one has a name that follows from what it is about.
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class FoundationTable(SQLModel):
    """Of which every table of the foundation is one; services have tables of their own, with metadata of their own."""

    metadata: ClassVar[MetaData] = MetaData(schema=SCHEMA, naming_convention=NAMING_CONVENTION)


class Preset(FoundationTable, PresetBase, table=True):
    """A document that a user keeps under a name; `version` counts its changes, so that none is lost."""

    __tablename__ = "presets"
    __table_args__ = (
        UniqueConstraint("owner_id", "kind", "name"),
        Index("uq_presets_default_kind", "kind", unique=True, postgresql_where=text(f"name = '{DEFAULT_NAME}'")),
        Index(None, "owner_id", "kind", "id"),
        CheckConstraint("version > 0", name="version_is_positive"),
        CheckConstraint("jsonb_typeof(document) = 'object'", name="document_is_object"),
    )

    id: UUID = Field(default_factory=_uuid7, primary_key=True)
    document: dict[str, Any] = Field(sa_type=JSONB)
    owner_id: str
    version: int = Field(default=1)
    created_at: datetime = Field(default_factory=_utcnow, sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(default_factory=_utcnow, sa_type=DateTime(timezone=True))
