"""The foundation's own way to the database."""

from api_server.database.advisory_lock import AdvisoryLock, advisory_lock, try_advisory_lock

__all__ = ["AdvisoryLock", "advisory_lock", "try_advisory_lock"]
