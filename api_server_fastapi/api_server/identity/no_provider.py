"""Identity where none is configured."""

from typing import NoReturn

from api_server.exceptions import NotAuthenticatedError
from api_server.identity.authenticator import Credentials


class NoProviderAuthenticator:
    """Refuses everybody: a service in production without an identity provider answers nothing that needs identity."""

    challenge = "Bearer"

    async def authenticate(self, credentials: Credentials | None) -> NoReturn:  # noqa: ARG002 - the port's signature
        raise NotAuthenticatedError("This service has no identity provider, so it accepts no credentials.")

    async def aclose(self) -> None:
        """Hold nothing."""
