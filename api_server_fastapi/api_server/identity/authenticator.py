"""The port through which every face learns who is asking."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from api_server.exceptions import NotAuthenticatedError

ADMIN_SCOPE = "admin"
ALL_SCOPES = frozenset({"*"})


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who asks, and what they may do, until `expires_at` where that is told, in seconds since 1970.

    The scope `*` stands for every scope but `admin`, which is had by its name only.
    """

    user_id: str
    scopes: frozenset[str]
    expires_at: float | None = None

    def has_scope(self, scope: str) -> bool:
        return scope in self.scopes or ("*" in self.scopes and scope != ADMIN_SCOPE)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an `Authorization` header carries: a lower-case scheme and the secret after it."""

    scheme: str
    value: str = field(repr=False)


class Authenticator(Protocol):
    """Tells who presents these credentials."""

    challenge: str
    """The `WWW-Authenticate` header of a refusal; `challenge_after` says more of one that was given a token."""

    async def authenticate(self, credentials: Credentials | None) -> Principal:
        """Return the principal.

        Raises NotAuthenticatedError where the credentials, or their absence, do not do, and IdentityUnavailableError
        where that cannot be told just now.
        """
        ...

    async def aclose(self) -> None:
        """Give up what is held; it may be used again after that."""
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


def credentials_from_headers(headers: Sequence[str]) -> Credentials | None:
    """Split the `Authorization` headers of a request, of which there is at most one.

    Raises NotAuthenticatedError where there are more: who looks at the first and who looks at the last would see
    different people.
    """
    if len(headers) > 1:
        raise NotAuthenticatedError("A request has one Authorization header.")
    return credentials_from_header(headers[0] if headers else None)


def challenge_after(challenge: str, credentials: Credentials | None) -> str:
    """Return the `WWW-Authenticate` header for who was refused with these credentials (RFC 6750, section 3.1)."""
    scheme, _, parameters = challenge.partition(" ")
    if scheme != "Bearer" or credentials is None or credentials.scheme != "bearer":
        return challenge
    return f'Bearer {parameters}, error="invalid_token"' if parameters else 'Bearer error="invalid_token"'
