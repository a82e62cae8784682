"""Whether a database URL is one at all, asked before anything is done with it."""

import psycopg
from psycopg.conninfo import conninfo_to_dict

from api_server.settings import libpq_url

UNREADABLE = "The database's URL cannot be read: it is none that libpq knows."


def can_be_read(url: str) -> bool:
    """Return whether libpq can read a URL; its own error would quote the part that it cannot, maybe the password."""
    try:
        conninfo_to_dict(libpq_url(url))
    except psycopg.ProgrammingError:
        return False
    return True
