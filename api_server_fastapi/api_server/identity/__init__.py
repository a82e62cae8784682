"""Who is asking: the Authenticator port and its adapters."""

from api_server.identity.authenticator import Authenticator, Credentials, Principal, credentials_from_header
from api_server.identity.development import DevelopmentAuthenticator
from api_server.identity.no_provider import NoProviderAuthenticator

__all__ = [
    "Authenticator",
    "Credentials",
    "DevelopmentAuthenticator",
    "NoProviderAuthenticator",
    "Principal",
    "credentials_from_header",
]
