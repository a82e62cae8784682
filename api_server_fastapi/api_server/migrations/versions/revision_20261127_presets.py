"""Creates the presets."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "20261127_presets"
down_revision = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "presets",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("document", JSONB(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("version > 0", name=op.f("ck_presets_version_is_positive")),
        sa.CheckConstraint("jsonb_typeof(document) = 'object'", name=op.f("ck_presets_document_is_object")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_presets")),
        sa.UniqueConstraint("owner_id", "kind", "name", name=op.f("uq_presets_owner_id_kind_name")),
        schema="api_server",
    )
    op.create_index(
        "uq_presets_default_kind",
        "presets",
        ["kind"],
        unique=True,
        schema="api_server",
        postgresql_where=sa.text("name = 'default'"),
    )
    op.create_index("ix_presets_owner_id_kind_id", "presets", ["owner_id", "kind", "id"], schema="api_server")


def downgrade() -> None:
    """Drop the table, with the presets in it."""
    op.drop_table("presets", schema="api_server")
