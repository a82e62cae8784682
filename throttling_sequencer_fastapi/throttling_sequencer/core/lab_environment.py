"""By which variables the sequencer finds a database that the failover lab runs."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class Address(Protocol):
    """Where a database is, and how to log in."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def user(self) -> str: ...
    @property
    def database(self) -> str: ...
    @property
    def password(self) -> str: ...


def lab_environment(
    addresses: Sequence[Address],
    through_pooler: bool,  # noqa: ARG001, FBT001 - the foundation's signature; the pool is made for a pooler as it is
) -> Mapping[str, str]:
    """Name every address as a host, of which the service uses the one that takes writes."""
    first = addresses[0]
    return {
        "PICCOLO_DB_HOST": ",".join(address.host for address in addresses),
        "PICCOLO_DB_PORT": ",".join(str(address.port) for address in addresses),
        "PICCOLO_DB_USER": first.user,
        "PICCOLO_DB_PASSWORD": first.password,
        "PICCOLO_DB_DATABASE": first.database,
    }
