"""Headers that keep browsers from doing with an answer what nobody meant."""

from collections.abc import Collection, Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_server.middlewares.route_path import route_path

Header = tuple[bytes, bytes]

_HEADERS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_ANSWER_POLICY = (
    b"content-security-policy",
    b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
)
# The pages of FastAPI and of GraphiQL fetch their scripts from these hosts, and begin by one that stands in the page.
_PAGE_POLICY = (
    b"content-security-policy",
    b"; ".join(
        (
            b"default-src 'none'",
            b"script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net https://unpkg.com",
            b"style-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net https://unpkg.com https://fonts.googleapis.com",
            b"font-src data: https://fonts.gstatic.com",
            b"img-src 'self' data: https://fastapi.tiangolo.com https://cdn.redoc.ly",
            b"connect-src 'self'",
            b"worker-src blob:",
            b"frame-ancestors 'none'",
            b"base-uri 'none'",
            b"form-action 'self'",
        )
    ),
)
_ONLY_HTTPS = (b"strict-transport-security", b"max-age=31536000")
_NOT_KEPT = (b"cache-control", b"no-store")


class SecurityHeadersMiddleware:
    """Adds to every answer the headers that it has not itself.

    Nothing may be loaded or framed by what is answered, but for the HTML of the paths in `pages`, which are
    documentation that works in a browser. Over https, browsers are told to stay there; and where somebody was known,
    nobody on the way keeps the answer.
    """

    def __init__(self, app: ASGIApp, pages: Collection[str] = ()) -> None:
        self.app = app
        self.pages = frozenset(pages)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            # A socket that is accepted is no answer that a browser shows; one that is refused may be.
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                message["headers"] = self._completed(scope, message.get("headers", ()))
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _completed(self, scope: Scope, given: Iterable[Header]) -> list[Header]:
        headers = list(given)
        present = dict(headers)
        is_html = present.get(b"content-type", b"").startswith(b"text/html")
        ours = [*_HEADERS, _PAGE_POLICY if is_html and route_path(scope) in self.pages else _ANSWER_POLICY]
        if scope["scheme"] in ("https", "wss"):
            ours.append(_ONLY_HTTPS)
        if scope.get("state", {}).get("principal") is not None:
            ours.append(_NOT_KEPT)
        if not present.keys().isdisjoint(header[0] for header in ours):
            ours = [header for header in ours if header[0] not in present]
        return headers + ours
