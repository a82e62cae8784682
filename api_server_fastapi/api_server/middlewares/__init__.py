"""Pure ASGI middlewares that serve any service, HTTP and WebSocket alike."""

from api_server.middlewares.authentication import CustomAuthenticationMiddleware
from api_server.middlewares.log_context import LogContextMiddleware

__all__ = ["CustomAuthenticationMiddleware", "LogContextMiddleware"]
