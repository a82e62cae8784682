"""Whether a database URL is one at all, asked before anything is done with it."""

from api_server.database.conninfo import UnreadableUrlError, conninfo

UNREADABLE = "The database's URL cannot be read: it is none that libpq knows."


def can_be_read(url: str) -> bool:
    """Return whether libpq can read a URL; its own error would quote the part that it cannot, maybe the password."""
    try:
        conninfo(url)
    except UnreadableUrlError:
        return False
    return True
