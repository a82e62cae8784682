"""What a request asks for, apart from where a proxy serves the service."""

from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """Return the path within the service.

    Of the scope: a URL rebuilt from the Host header could be made to name another path. With a root path, the server
    puts it in front.
    """
    path: str = scope["path"]
    root_path: str = scope.get("root_path", "")
    return path.removeprefix(root_path) if path.startswith(f"{root_path}/") else path
