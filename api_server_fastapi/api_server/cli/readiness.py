"""`check`: whether a service could do its work here, asked without serving it."""

from api_server.cli.checked_application import checked_application
from api_server.cli.checks.runner import run_checks
from api_server.cli.output import tell
from api_server.database.connection import dispose_db
from api_server.logging import configure_logging
from api_server.readiness_pipeline import ReadinessState
from api_server.server import UvicornServerConfig
from api_server.services.di import get_readiness_pipeline, use_application
from api_server.settings import get_settings


def check_readiness(*, strict: bool) -> int:
    """Run the pipeline of the selected application once, and return 1 for an error, or `strict` and degraded, else 0.

    Raises StartError where the application or its settings cannot be used.
    """
    application = checked_application(UvicornServerConfig)
    # What is printed is the report.
    configure_logging("WARNING", get_settings().log_format)
    registry = use_application(application)
    state = run_checks(get_readiness_pipeline(), registry.aclose, dispose_db)
    if state is ReadinessState.DEGRADED:
        tell(f"{application.name} is degraded: it serves, but not all that it should.")
    return int(state is ReadinessState.ERROR or (strict and state is ReadinessState.DEGRADED))
