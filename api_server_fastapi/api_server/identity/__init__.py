"""Who is asking: the Authenticator port and its adapters."""

from api_server.identity.authenticator import (
    ADMIN_SCOPE,
    Authenticator,
    Credentials,
    Principal,
    challenge_after,
    credentials_from_header,
    credentials_from_headers,
)
from api_server.identity.development import DevelopmentAuthenticator
from api_server.identity.no_provider import NoProviderAuthenticator
from api_server.identity.selected import authenticator_of

__all__ = [
    "ADMIN_SCOPE",
    "Authenticator",
    "Credentials",
    "DevelopmentAuthenticator",
    "NoProviderAuthenticator",
    "Principal",
    "authenticator_of",
    "challenge_after",
    "credentials_from_header",
    "credentials_from_headers",
]
