"""What every check of the database does: ask it one thing, and say in a sentence why there is no answer."""

from abc import abstractmethod

import psycopg
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api_server.database.conninfo import UnreadableUrlError
from api_server.readiness_pipeline import ReadinessCheck, ReadinessCheckResult


class DatabaseCheck(ReadinessCheck):
    """Answers by `_ask` on a connection; fails where there is none to be had."""

    def __init__(self, name: str, engine: AsyncEngine | None, *, run_once: bool = False) -> None:
        super().__init__(name, run_once=run_once)
        self._engine = engine

    @abstractmethod
    async def _ask(self, connection: AsyncConnection) -> ReadinessCheckResult:
        """Ask the database, and answer."""

    async def _execute(self) -> ReadinessCheckResult:
        if self._engine is None:
            return self.failed("no database is configured")
        try:
            async with self._engine.connect() as connection:
                return await self._ask(connection)
        except (psycopg.OperationalError, OperationalError) as error:
            reason = error.orig if isinstance(error, OperationalError) else error
            return self.failed("the database cannot be reached", {"error": " ".join(str(reason).split())})
        except UnreadableUrlError:
            return self.failed("the database's URL cannot be read")
        except NoConnectionError:
            return self.failed("every connection of the pool is in use")
