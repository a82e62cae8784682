"""The history of the foundation's tables, and the environment in which Alembic runs it or any other service's."""
