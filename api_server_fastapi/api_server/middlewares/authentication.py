"""Asks the Authenticator who is there, before anything else of a request is looked at."""

from collections.abc import Collection

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api_server.exceptions import IdentityUnavailableError, NotAuthenticatedError
from api_server.identity import Authenticator, Credentials, Principal, challenge_after, credentials_from_headers
from api_server.middlewares.route_path import route_path
from api_server.problem_details import problem_response


class CustomAuthenticationMiddleware:
    """Puts the principal into `scope["state"]["principal"]`, and into the log's context as `user_id`.

    An HTTP request that is not accepted is answered 401, or 503 where it cannot be told just now who asks. For a GET or
    HEAD of a path in `public_paths` nobody is asked; of one in `open_paths`, which anybody may read, the principal is
    None where nobody is accepted. A socket is never refused here, where a browser could not see why: its principal is
    None, and whoever speaks its protocol refuses it.
    """

    def __init__(
        self,
        app: ASGIApp,
        authenticator: Authenticator,
        public_paths: Collection[str] = (),
        open_paths: Collection[str] = (),
    ) -> None:
        self.app = app
        self.authenticator = authenticator
        self.public_paths = frozenset(public_paths)
        self.open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or _reads_one_of(self.public_paths, scope):
            await self.app(scope, receive, send)
            return
        principal: Principal | None = None
        credentials: Credentials | None = None
        try:
            credentials = credentials_from_headers(Headers(scope=scope).getlist("authorization"))
            principal = await self.authenticator.authenticate(credentials)
            structlog.contextvars.bind_contextvars(user_id=principal.user_id)
        except (NotAuthenticatedError, IdentityUnavailableError) as error:
            if scope["type"] == "http" and not _reads_one_of(self.open_paths, scope):
                await self._refuse(error, credentials)(scope, receive, send)
                return
        scope.setdefault("state", {})["principal"] = principal
        await self.app(scope, receive, send)

    def _refuse(
        self, error: NotAuthenticatedError | IdentityUnavailableError, credentials: Credentials | None
    ) -> ASGIApp:
        if isinstance(error, IdentityUnavailableError):
            headers = {"Retry-After": str(error.retry_after_s)}
            return problem_response(503, str(error), code=error.code, headers=headers)
        headers = {"WWW-Authenticate": challenge_after(self.authenticator.challenge, credentials)}
        return problem_response(401, error.reason, code=error.code, headers=headers)


def _reads_one_of(paths: Collection[str], scope: Scope) -> bool:
    return scope.get("method") in ("GET", "HEAD") and route_path(scope) in paths
