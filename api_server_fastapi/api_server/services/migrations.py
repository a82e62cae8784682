"""Every migration that an application needs: the foundation's own, then those that it lists."""

from api_server.application import Application
from api_server.database.alembic_manager import AlembicManager
from api_server.database.migration_backend import MigrationBackend


def migrations_of(application: Application) -> tuple[MigrationBackend, ...]:
    """Return the backends in the order in which they are applied; none of the foundation's without a database."""
    url = application.primary_url() if application.needs_database else None
    own = (AlembicManager(url),) if url else ()
    return (*own, *application.migrations())
