"""A database of a test's own, on a server that others share."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

import psycopg
from api_server.local.postgres import PostgresAddress
from psycopg import sql


@contextmanager
def fresh_database(server: PostgresAddress) -> Iterator[PostgresAddress]:
    """Make an empty database, and drop it at the end whoever is still connected."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield replace(server, database=name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
