"""Which route answered a request, as its template: a path itself would be a label that clients choose."""

from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.types import Scope

UNMATCHED = "unmatched"
_ANYTHING = "/{path}"
_NO_SCOPE: dict[str, Any] = {}


class RouteTemplates:
    """Knows the templates of an application's routes."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        # FastAPI says in the scope which of its routes it has chosen; Starlette says only which endpoint.
        self._of_endpoint: dict[int, str] = {}
        for route in app.routes:
            if isinstance(route, Mount):
                self._of_endpoint[id(route.app)] = route.path_format
            elif isinstance(route, Route):
                self._of_endpoint[id(route.endpoint)] = route.path_format

    def of(self, scope: Scope) -> str:
        """Return the template of the route that was chosen for a scope, `unmatched` where none was."""
        # The routes of a router that was included know their own path only; this one knows the whole.
        chosen = scope.get("fastapi", _NO_SCOPE).get("effective_route_context")
        if chosen is None:
            template: str | None = getattr(scope.get("route"), "path_format", None)
        else:
            template = (chosen.starlette_route or chosen).path_format
        if scope["app"] is self._app:
            return template or self._of_endpoint.get(id(scope.get("endpoint")), UNMATCHED)
        mounted_at = self._of_endpoint.get(id(scope["app"]), UNMATCHED + _ANYTHING)
        return mounted_at if template is None else mounted_at.removesuffix(_ANYTHING) + template
