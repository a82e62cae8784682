"""Which checks a command runs: one critical stage, up to the first that fails."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from api_server.checks.database_health_check import DatabaseHealthCheck
from api_server.checks.database_initialization_check import DatabaseInitializationCheck
from api_server.checks.database_schema_check import DatabaseSchemaCheck
from api_server.database.migration_backend import MigrationBackend
from api_server.readiness_pipeline import ReadinessPipeline, ReadinessPipelineBuilder

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


def basic_pipeline(engine: "AsyncEngine | None") -> ReadinessPipeline:
    """Compose what has to hold before a migration: the database can be used, and takes writes."""
    return _basic(engine).build()


def full_pipeline(engine: "AsyncEngine | None", backends: Sequence[MigrationBackend]) -> ReadinessPipeline:
    """Compose what has to hold after it: nothing is pending, moreover."""
    return _basic(engine).add_check(DatabaseSchemaCheck(backends)).build()


def _basic(engine: "AsyncEngine | None") -> ReadinessPipelineBuilder:
    builder = ReadinessPipelineBuilder().add_stage("database", is_critical=True, fail_fast=True)
    return builder.add_check(DatabaseInitializationCheck(engine)).add_check(DatabaseHealthCheck(engine))
