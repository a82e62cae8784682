"""What Alembic runs for each thing that it does: for the foundation, and for any service that uses `AlembicManager`.

Everything comes by `config.attributes`, so that no service needs an environment of its own.
"""

from typing import Any, Literal

from alembic import context
from sqlalchemy import inspect
from sqlalchemy.schema import CreateSchema
from sqlmodel.sql.sqltypes import AutoString

_connection = context.config.attributes["connection"]
_metadata = context.config.attributes["metadata"]
_changes_tables = context.config.attributes["changes_tables"]


def _is_compared(name: str | None, kind: str, parents: object) -> bool:  # noqa: ARG001 - as Alembic calls it
    return kind != "schema" or name == _metadata.schema


def _rendered(kind: str, item: object, autogenerate: Any) -> str | Literal[False]:  # noqa: ANN401, ARG001 - as above
    """Write SQLModel's type of text as what it is for the database, so that migrations need no SQLModel."""
    if kind != "type" or not isinstance(item, AutoString):
        return False
    return f"sa.String(length={item.length})" if item.length else "sa.String()"


context.configure(
    connection=_connection,
    target_metadata=_metadata,
    version_table_schema=_metadata.schema,
    include_schemas=True,
    include_name=_is_compared,
    render_item=_rendered,
    compare_server_default=True,
    # Who only compares makes no table for the record either.
    dont_mutate=not _changes_tables,
    # Check constraints are compared by their names, not by what they say.
    autogenerate_plugins=["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"],
)
with context.begin_transaction():
    # Asked first: who may use a schema that is there need not be allowed to create one.
    if _changes_tables and not inspect(_connection).has_schema(_metadata.schema):
        _connection.execute(CreateSchema(_metadata.schema, if_not_exists=True))
    context.run_migrations()
