"""The port through which every face learns who is asking."""

from dataclasses import dataclass, field
from typing import Protocol

from api_server.exceptions import NotAuthenticatedError

ALL_SCOPES = frozenset({"*"})


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who asks, and what they may do; the scope `*` stands for every scope."""

    user_id: str
    scopes: frozenset[str]

    def has_scope(self, scope: str) -> bool:
        return scope in self.scopes or "*" in self.scopes


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an `Authorization` header carries: a lower-case scheme and the secret after it."""

    scheme: str
    value: str = field(repr=False)


class Authenticator(Protocol):
    """Tells who presents these credentials."""

    challenge: str
    """The `WWW-Authenticate` header of a refusal."""

    async def authenticate(self, credentials: Credentials | None) -> Principal:
        """Return the principal. Raises NotAuthenticatedError where the credentials, or their absence, do not do."""
        ...


def credentials_from_header(header: str | None) -> Credentials | None:
    """Split an `Authorization` header (RFC 9110, section 11.4).

    Returns None where there is no header. Raises NotAuthenticatedError where it is not `<scheme> <credentials>`.
    """
    if header is None:
        return None
    scheme, _, value = header.strip().partition(" ")
    if not scheme or not value.strip():
        raise NotAuthenticatedError("The Authorization header is not of the form '<scheme> <credentials>'.")
    return Credentials(scheme.lower(), value.strip())
