"""The application that a command works on, once nothing is wrong with its settings."""

from pydantic_settings import BaseSettings

from api_server.application import Application
from api_server.foundation import selected_application
from api_server.settings import Settings, read_settings


def checked_application(*more: type[BaseSettings]) -> Application:
    """Return the selected application, after a check of its settings, the foundation's and `more`.

    Raises SettingsError with a sentence for each variable that is wrong, and StartError where there is no application.
    """
    # All that can be told before it is known which application is meant.
    read_settings(Settings, *more)
    application = selected_application()
    application.check_environment(*more)
    return application
