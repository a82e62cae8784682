"""Profiles: which faces of the service are served."""

from api_server.application import GRAPHQL_PROFILE, REST_PROFILE
from api_server.services.di import get_application

__all__ = ["GRAPHQL_PROFILE", "REST_PROFILE", "get_active_profiles"]


def get_active_profiles() -> frozenset[str]:
    """Return the names of the faces that this process serves: `rest`, `graphql`, and the application's own.

    `API_SERVER_PROFILES` chooses among them; unset, it is all.
    """
    return get_application().active_profiles()
