"""What tests do with a lab: rows that are written and looked for, processes that are counted."""

from pathlib import Path

import psutil
import psycopg
from api_server.local.lab import Lab
from api_server.local.postgres import PostgresAddress


def query(address: PostgresAddress, statement: str) -> list[tuple[object, ...]]:
    """Do one statement and return its rows."""
    with psycopg.connect(address.url, autocommit=True, connect_timeout=5) as session:
        cursor = session.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


def write(lab: Lab, row: int, node: str | None = None) -> None:
    """Write a row to the table `kept`, which is made if it is not there, of a node or of the writer."""
    name = node or lab.writer()
    assert name is not None
    query(lab.address(name), "CREATE TABLE IF NOT EXISTS kept (row int)")
    query(lab.address(name), f"INSERT INTO kept VALUES ({row})")


def rows(lab: Lab, node: str) -> list[object]:
    """Return the rows that a node has."""
    return [row for (row,) in query(lab.address(node), "SELECT row FROM kept ORDER BY row")]


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return all processes that run for what is in a folder: it is where they work, or among their arguments."""
    return [process for process in psutil.process_iter() if _is_of(process, str(folder.resolve()))]


def _is_of(process: psutil.Process, folder: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and (
            process.cwd().startswith(folder) or any(folder in part for part in process.cmdline())
        )
    except psutil.Error:
        return False
