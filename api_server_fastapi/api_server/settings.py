"""Settings of the foundation, and the one way in which any settings class is read from the environment."""

import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, StringConstraints, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from api_server.exceptions import SettingsError, StartError


def settings_config(prefix: str) -> SettingsConfigDict:
    """Configure a settings class as all are: frozen, case-insensitive, and an empty variable counts as unset."""
    return SettingsConfigDict(env_prefix=prefix, env_ignore_empty=True, frozen=True, extra="forbid")


class Settings(BaseSettings):
    """`API_SERVER_*` and `ENV_TYPE`: what every service on the foundation can be told."""

    model_config = settings_config("API_SERVER_")

    env_type: Literal["development", "production"] = Field(
        default="development",
        validation_alias="ENV_TYPE",
        description="`production` refuses the development identity and the embedded database",
    )
    app: Annotated[str, StringConstraints(pattern=r"^[\w.]+:\w+$")] | None = Field(
        default=None, description="the `module:attribute` of the Application to serve; unset: the foundation itself"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        default="INFO", description="lines below this level are not written"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="`auto`: readable on a terminal, JSON anywhere else"
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="`postgresql://…` straight to the primary; unset: the application's own database",
    )


def read_settings(*classes: type[BaseSettings]) -> None:
    """Check the environment against all these classes at once.

    Raises SettingsError with a sentence for each variable that is malformed, or that carries one of the classes'
    prefixes and is none of theirs.
    """
    problems = [problem for cls in classes for problem in _malformed(cls)]
    if problems := problems + _unknown(classes):
        raise SettingsError(problems)


@cache
def get_settings() -> Settings:
    """Return the process's settings, read once."""
    read_settings(Settings)
    return Settings()


def load_env_file(path: Path) -> None:
    """Read an env file into the process's environment, where what is already set wins.

    Reload and worker children inherit it, so that every process of a service sees the same values.
    """
    if not path.is_file():
        raise StartError(f"The env file {path} does not exist.")
    present = {name.casefold() for name, value in os.environ.items() if value}
    for name, value in dotenv_values(path).items():
        if value and name.casefold() not in present:
            override_environment({name: value})


def override_environment(values: Mapping[str, str]) -> None:
    """Set variables for this process and its children, whatever the case they were spelled in before."""
    replaced = {name.casefold() for name in values}
    for name in [name for name in os.environ if name.casefold() in replaced]:
        del os.environ[name]
    os.environ.update(values)


def variables_of(cls: type[BaseSettings]) -> dict[str, FieldInfo]:
    """Map the upper-case name of each variable that a settings class reads to its field."""
    prefix = cls.model_config.get("env_prefix", "")
    return {
        (field.validation_alias if isinstance(field.validation_alias, str) else prefix + name).upper(): field
        for name, field in cls.model_fields.items()
    }


def _malformed(cls: type[BaseSettings]) -> list[str]:
    try:
        cls()
    except ValidationError as error:
        variables = variables_of(cls)
        by_field = dict(zip(cls.model_fields, variables, strict=True))
        return [
            # A rule about several fields names them itself.
            _sentence(by_field.get(str(item["loc"][0]), str(item["loc"][0]).upper()), variables, item["msg"])
            if item["loc"]
            else item["msg"].removeprefix("Value error, ")
            for item in error.errors(include_input=False, include_context=False, include_url=False)
        ]
    return []


def _sentence(variable: str, variables: Mapping[str, FieldInfo], message: str) -> str:
    field = variables.get(variable)
    meaning = f" ({field.description})" if field and field.description else ""
    shown = "" if field is not None and "Secret" in str(field.annotation) else f" is {_value_of(variable)!r}, and"
    rule = message.removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{variable}{shown} should be {rule}{meaning}."


def _value_of(variable: str) -> str:
    return next((value for name, value in os.environ.items() if name.upper() == variable and value), "")


def _unknown(classes: Iterable[type[BaseSettings]]) -> list[str]:
    known = {variable for cls in classes for variable in variables_of(cls)}
    prefixes = {cls.model_config.get("env_prefix", "") for cls in classes} - {""}
    return [
        f"{name} is not a variable of this service; {prefix}* may be "
        f"{', '.join(sorted(variable for variable in known if variable.startswith(prefix)))}."
        for name, value in sorted(os.environ.items())
        for prefix in sorted(prefixes)
        if value and name.upper().startswith(prefix) and name.upper() not in known
    ]
