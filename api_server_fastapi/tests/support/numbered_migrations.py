"""A migration backend that cannot bear to be run twice; run it to migrate a database from a process of its own."""

import asyncio
import sys

import psycopg
from api_server.database.migration_backend import upgrade_all


class NumberedMigrations:
    """Creates the table `numbered`, slowly, and writes a row each time that it does."""

    name = "numbered"

    def __init__(self, url: str) -> None:
        self._url = url

    async def pending(self) -> list[str]:
        async with await psycopg.AsyncConnection.connect(self._url) as connection:
            cursor = await connection.execute("SELECT to_regclass('numbered') IS NULL")
            row = await cursor.fetchone()
        return ["0001"] if row == (True,) else []

    async def upgrade(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._url) as connection:
            await connection.execute("CREATE TABLE IF NOT EXISTS numbered (process integer)")
            await asyncio.sleep(0.5)
            await connection.execute("INSERT INTO numbered VALUES (pg_backend_pid())")


if __name__ == "__main__":
    print(dict(asyncio.run(upgrade_all([NumberedMigrations(sys.argv[1])], sys.argv[1]))))  # noqa: T201 - the answer
