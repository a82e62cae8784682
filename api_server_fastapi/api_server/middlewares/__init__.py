"""Pure ASGI middlewares that serve any service, HTTP and WebSocket alike."""

from api_server.middlewares.authentication import CustomAuthenticationMiddleware
from api_server.middlewares.body_limit import BodyLimitMiddleware
from api_server.middlewares.draining import DrainingMiddleware
from api_server.middlewares.log_context import LogContextMiddleware
from api_server.middlewares.metrics import MetricsMiddleware
from api_server.middlewares.security_headers import SecurityHeadersMiddleware

__all__ = [
    "BodyLimitMiddleware",
    "CustomAuthenticationMiddleware",
    "DrainingMiddleware",
    "LogContextMiddleware",
    "MetricsMiddleware",
    "SecurityHeadersMiddleware",
]
