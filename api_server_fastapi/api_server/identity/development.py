"""Identity for development: everybody is believed."""

import base64
import re

from api_server.exceptions import NotAuthenticatedError
from api_server.identity.authenticator import ADMIN_SCOPE, ALL_SCOPES, Credentials, Principal

_USER_ID = re.compile(r"[\w.@+-]{1,128}", re.ASCII)
_ADMIN = "admin"


class DevelopmentAuthenticator:
    """Takes the user's name from the credentials without checking them; without any, the user is `developer`.

    `Basic` gives the name before the colon, `Bearer` the token itself. Every user has all scopes but `admin`, which the
    user of that name has.
    """

    challenge = 'Basic realm="development", Bearer'

    async def authenticate(self, credentials: Credentials | None) -> Principal:
        user_id = "developer" if credentials is None else _user_of(credentials)
        if not _USER_ID.fullmatch(user_id):
            raise NotAuthenticatedError("A user is named by 1 to 128 letters, digits and the characters . @ + - _")
        return Principal(user_id, ALL_SCOPES | {ADMIN_SCOPE} if user_id == _ADMIN else ALL_SCOPES)

    async def aclose(self) -> None:
        """Hold nothing."""


def _user_of(credentials: Credentials) -> str:
    match credentials.scheme:
        case "bearer":
            return credentials.value
        case "basic":
            try:
                return base64.b64decode(credentials.value, validate=True).decode().partition(":")[0]
            except ValueError as error:
                raise NotAuthenticatedError("Basic credentials are the base64 form of 'user:password'.") from error
        case _:
            raise NotAuthenticatedError("The development identity understands the schemes Basic and Bearer.")
