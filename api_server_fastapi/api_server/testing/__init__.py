"""A pytest plugin: real databases, real servers and real processes for tests, and guards that watch over each test.

A conftest.py at the root asks for it by `pytest_plugins = ["api_server.testing"]`.

Fixtures: `postgres` is the address of a server shared by the session, `database` that of a database of the test's own
on it, `postgres_cluster` a server that a test may stop and start, `cluster` nodes that replicate each other and may be
promoted, killed, frozen and cut off, `serve` runs an ASGI app on a real uvicorn in the test's event loop,
`start_service` starts a service as a process of its own and ends it with the test, `marker_secret` is a password that
must not be seen anywhere.

Guards fail a test that blocks its event loop, or leaves tasks, descriptors, advisory locks or slots of connection pools
behind, or shows the secret. `@pytest.mark.unguarded("blocking", reason="…")` opts a test out.
"""

from api_server.testing.clusters import MakeCluster, cluster
from api_server.testing.databases import (
    RunningCluster,
    database,
    fresh_database,
    postgres,
    postgres_cluster,
)
from api_server.testing.guarding import guarded, pytest_addoption, pytest_configure
from api_server.testing.guards.secret import marker_secret
from api_server.testing.processes import ServiceProcess, StartService, clean_environment, start_service
from api_server.testing.serving import Serve, serve

__all__ = [
    "MakeCluster",
    "RunningCluster",
    "Serve",
    "ServiceProcess",
    "StartService",
    "clean_environment",
    "cluster",
    "database",
    "fresh_database",
    "guarded",
    "marker_secret",
    "postgres",
    "postgres_cluster",
    "pytest_addoption",
    "pytest_configure",
    "serve",
    "start_service",
]
