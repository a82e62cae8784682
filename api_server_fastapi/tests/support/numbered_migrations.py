"""A migration backend that cannot bear to be run twice; run it to migrate a database from a process of its own.

`NUMBERED` is an application whose tables it makes.
"""

import asyncio
import sys

import psycopg
from api_server.application import Application
from api_server.database.migration_backend import MigrationBackend, migrations_after, upgrade_all


class NumberedMigrations:
    """Creates the table `numbered`, slowly, and writes a row each time that it does."""

    name = "numbered"

    def __init__(self, url: str) -> None:
        self._url = url

    async def applied(self) -> list[str]:
        async with await psycopg.AsyncConnection.connect(self._url) as connection:
            cursor = await connection.execute("SELECT to_regclass('numbered') IS NOT NULL")
            row = await cursor.fetchone()
        return ["0001"] if row == (True,) else []

    async def pending(self) -> list[str]:
        return [] if await self.applied() else ["0001"]

    async def upgrade(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._url) as connection:
            await connection.execute("CREATE TABLE IF NOT EXISTS numbered (process integer)")
            await asyncio.sleep(0.5)
            await connection.execute("INSERT INTO numbered VALUES (pg_backend_pid())")

    async def downgrade(self, target: str) -> None:
        if migrations_after(target, await self.applied()):
            async with await psycopg.AsyncConnection.connect(self._url) as connection:
                await connection.execute("DROP TABLE numbered")


class FailingMigrations(NumberedMigrations):
    """Has a migration that cannot be applied."""

    name = "failing"

    async def upgrade(self) -> None:
        raise ValueError("column x is missing")


def _migrations() -> tuple[MigrationBackend, ...]:
    url = NUMBERED.primary_url()
    return (NumberedMigrations(url),) if url else ()


def _failing_migrations() -> tuple[MigrationBackend, ...]:
    url = FAILING.primary_url()
    return (FailingMigrations(url),) if url else ()


NUMBERED = Application(name="numbered", version="1", requires_database=True, migrations=_migrations)
FAILING = Application(name="failing", version="1", requires_database=True, migrations=_failing_migrations)


if __name__ == "__main__":
    print(dict(asyncio.run(upgrade_all([NumberedMigrations(sys.argv[1])], sys.argv[1]))))  # noqa: T201 - the answer
