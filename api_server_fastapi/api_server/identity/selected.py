"""Which identity the settings choose."""

import structlog

from api_server.identity.authenticator import Authenticator
from api_server.identity.development import DevelopmentAuthenticator
from api_server.identity.no_provider import NoProviderAuthenticator
from api_server.settings import Settings

log = structlog.get_logger("api_server.identity")


def authenticator_of(settings: Settings) -> Authenticator:
    """Make what tells who asks. Raises SettingsError where the credentials file cannot be used."""
    # What verifies passwords and tokens is imported by who has any to verify.
    match settings.believed:
        case "development":
            return DevelopmentAuthenticator()
        case "basic":
            from api_server.identity.basic import BasicAuthenticator  # noqa: PLC0415

            assert settings.credentials_file is not None
            return BasicAuthenticator(settings.credentials_file)
        case "oidc":
            from api_server.identity.oidc import OidcAuthenticator  # noqa: PLC0415

            assert settings.oidc_issuer is not None
            audience, algorithms = settings.oidc_audience, settings.oidc_algorithms
            return OidcAuthenticator.of(settings.oidc_issuer, audience, algorithms, settings.oidc_jwks_url)
        case "none":
            log.warning("no identity provider: what needs identity answers 401")
            return NoProviderAuthenticator()
