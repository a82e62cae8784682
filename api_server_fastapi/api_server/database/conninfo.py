"""How the foundation connects: straight to the primary, and noticing a peer that is dead."""

from contextlib import suppress

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api_server.settings import libpq_url

# What a URL does not say itself.
_PARAMETERS: dict[str, str | int] = {
    "connect_timeout": 2,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


class UnreadableUrlError(ValueError):
    """A database URL is none that libpq can read; the message does not repeat it, for it may hold a password."""

    def __init__(self) -> None:
        super().__init__("The database's URL cannot be read.")


def conninfo(url: str, **parameters: str | int) -> str:
    """Return what libpq connects with: these parameters where the URL says nothing else. Raises UnreadableUrlError.

    Of several hosts, the primary is meant.
    """
    with suppress(psycopg.ProgrammingError):
        # libpq quotes the part of the URL that it cannot read: its error goes nowhere.
        said = conninfo_to_dict(libpq_url(url))
        host = str(said.get("host", ""))
        # A password with an @ that is not escaped ends at it, and its rest would be told as a host that is not there.
        if "@" not in host:
            several = {"target_session_attrs": "primary"} if "," in host else {}
            return make_conninfo("", **{**_PARAMETERS, **several, **parameters, **said})
    raise UnreadableUrlError
