"""A package of Alembic's migrations that a test writes, and what may be seen of them in the database."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import psycopg
from api_server.database.alembic_manager import AlembicManager
from sqlalchemy import MetaData

SCHEMA = "planted"

_MODULE = """
from alembic import op

revision = {revision!r}
down_revision = {after!r}


def upgrade() -> None:
{upgrade}


def downgrade() -> None:
{downgrade}
"""


class PlantedMigrations:
    """A package in a folder, which whoever imports it has on its path; each migration comes after the last one."""

    def __init__(self, folder: Path, package: str = "planted") -> None:
        self.package = package
        self.versions = folder / package / "versions"
        self.versions.mkdir(parents=True)
        (folder / package / "__init__.py").touch()
        self.revisions: list[str] = []

    def add(self, revision: str, upgrade: str, downgrade: str = "pass", *, after: str | None = None) -> None:
        """Write a migration; both ways are code."""
        if after is None and self.revisions:
            after = self.revisions[-1]
        self.revisions.append(revision)
        self.write(revision, upgrade, downgrade, after=after)

    def write(self, revision: str, upgrade: str, downgrade: str = "pass", *, after: str | None = None) -> None:
        """Write a migration, or write it anew."""
        bodies = {"upgrade": indent(dedent(upgrade), "    "), "downgrade": indent(dedent(downgrade), "    ")}
        text = _MODULE.format(revision=revision, after=after, **bodies)
        (self.versions / f"revision_{revision}.py").write_text(text)

    def forget(self, revision: str) -> None:
        """Let the package be that of a release before this migration."""
        self.revisions.remove(revision)
        (self.versions / f"revision_{revision}.py").unlink()

    def manager(self, url: str, **options: Any) -> AlembicManager:
        return AlembicManager(
            url, **{"name": "planted", "package": self.package, "metadata": MetaData(schema=SCHEMA), **options}
        )


def executed(*statements: str) -> str:
    """Return the code of a migration that executes these statements."""
    return "\n".join(f"op.execute({statement!r})" for statement in statements)


def unwrapped(*statements: str) -> str:
    """Return the code of a migration that executes these statements outside of a transaction."""
    return "with op.get_context().autocommit_block():\n" + indent(executed(*statements), "    ")


def rows(url: str, query: Any, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query, parameters or None).fetchall()


def relations(url: str) -> set[str]:
    """Return the tables, indexes and sequences that are not PostgreSQL's own, and schemas without any as `schema.`."""
    query = """
        SELECT nspname || '.' || coalesce(relname, '') FROM pg_namespace
        LEFT JOIN pg_class ON relnamespace = pg_namespace.oid
        WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'public') AND nspname NOT LIKE 'pg_%'
        UNION SELECT 'public.' || relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
    """
    return {name for (name,) in rows(url, query)}


def sessions(url: str) -> int:
    """Return how many connections of migrations or of the lock the server still has for this database."""
    query = """
        SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND application_name IN ('api_server migrations', 'api_server advisory lock', 'api_server')
    """
    return int(rows(url, query)[0][0])


def locks(url: str) -> int:
    """Return how many locks others than this session hold in this database."""
    query = """
        SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND locktype <> 'virtualxid'
    """
    return int(rows(url, query)[0][0])
