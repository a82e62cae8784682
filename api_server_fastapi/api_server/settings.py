"""Settings of the foundation, and the one way in which any settings class is read from the environment."""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from api_server.edge_settings import Identity, IdentitySettings, LeavingSettings, LimitSettings, ObservabilitySettings
from api_server.environment import comma_separated, value_of
from api_server.exceptions import SettingsError

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
Name = Annotated[str, StringConstraints(min_length=1, to_lower=True)]
Origin = Annotated[str, StringConstraints(pattern=r"^(\*|https?://[^/\s*]+)$")]
_PRODUCTION_DRAIN_DELAY_S = 3.0
POSTGRES_SCHEMES = ("postgresql://", "postgresql+psycopg://")


def settings_config(prefix: str) -> SettingsConfigDict:
    """Configure a settings class as all are: frozen, case-insensitive, and an empty variable counts as unset."""
    return SettingsConfigDict(env_prefix=prefix, env_ignore_empty=True, frozen=True, extra="forbid")


class Settings(LeavingSettings, ObservabilitySettings, LimitSettings, IdentitySettings, BaseSettings):
    """`API_SERVER_*` and `ENV_TYPE`: what every service on the foundation can be told."""

    model_config = settings_config("API_SERVER_")

    env_type: Literal["development", "production"] = Field(
        default="development",
        validation_alias="ENV_TYPE",
        description="`production` refuses the development identity and the embedded database",
    )
    app: Annotated[str, StringConstraints(pattern=r"^\w+(\.\w+)*:\w+$")] | None = Field(
        default=None,
        description="the `module:attribute` of the Application that `api-server` serves; unset: the foundation itself",
    )
    log_level: LogLevel = Field(default="INFO", description="lines below this level are not written")
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="`auto`: readable on a terminal, JSON anywhere else"
    )
    graphql_legacy_sockets: bool = Field(
        default=True, description="speak the older protocol `graphql-ws` on GraphQL sockets too"
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="`postgresql://…` straight to the primary; unset: the application's own database",
    )
    database_pool_size: int = Field(
        default=5, ge=1, le=1000, description="connections that each serving process has to that database at most"
    )
    database_statement_timeout_ms: int = Field(
        default=5000, ge=1, le=600_000, description="milliseconds that a statement of a request may run"
    )
    profiles: Annotated[tuple[Name, ...], NoDecode, BeforeValidator(comma_separated)] = Field(
        default=(),
        description="which faces are served: `rest`, `graphql`, or several separated by commas; unset: all",
    )
    sqlalchemy_log_level: LogLevel = Field(
        default="WARNING", description="the same for SQLAlchemy's lines; `INFO` writes every statement"
    )
    readiness_period_s: float = Field(
        default=5.0, ge=1, le=10, description="seconds from one readiness report to the next; 1 while something fails"
    )
    readiness_failures: int = Field(
        default=1, ge=1, le=100, description="failures in a row after which a check that was good has failed"
    )
    readiness_successes: int = Field(
        default=1, ge=1, le=100, description="successes in a row after which a check that failed is good again"
    )
    cors_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(comma_separated)] = Field(
        default=(), description="origins whose pages may ask, separated by commas, or `*`; unset: none"
    )
    cors_credentials: bool = Field(default=False, description="let those pages send cookies and credentials")

    @model_validator(mode="after")
    def _credentials_are_for_known_origins(self) -> Self:
        if self.cors_credentials and "*" in self.cors_origins:
            raise ValueError(
                "API_SERVER_CORS_CREDENTIALS should not be true where API_SERVER_CORS_ORIGINS is *: every page of the "
                "web could then ask in the name of whoever visits it. Name the origins."
            )
        return self

    @model_validator(mode="after")
    def _believes_nobody_unchecked_in_production(self) -> Self:
        if self.env_type == "production" and self.identity == "development":
            raise ValueError("API_SERVER_IDENTITY should not be development where ENV_TYPE is production.")
        if self.drain_delay and self.leave_within_s < 2 * self.drain_delay:
            raise ValueError(
                f"API_SERVER_LEAVE_WITHIN_S should be at least twice API_SERVER_DRAIN_DELAY_S, which is "
                f"{self.drain_delay:g}: requests in flight need time to end."
            )
        return self

    @property
    def believed(self) -> Identity:
        """Who is believed: what is set, else what goes with the type of environment."""
        return self.identity or ("none" if self.is_production else "development")

    @property
    def is_production(self) -> bool:
        return self.env_type == "production"

    @property
    def has_introspection(self) -> bool:
        return self._unless_production(self.graphql_introspection)

    @property
    def has_graphql_ide(self) -> bool:
        return self._unless_production(self.graphql_ide)

    @property
    def has_suggestions(self) -> bool:
        return self._unless_production(self.graphql_suggestions)

    @property
    def drain_delay(self) -> float:
        """Seconds: what is set, else what goes with the type of environment."""
        if self.drain_delay_s is not None:
            return self.drain_delay_s
        return _PRODUCTION_DRAIN_DELAY_S if self.is_production else 0.0

    def _unless_production(self, setting: bool | None) -> bool:  # noqa: FBT001 - a setting
        return not self.is_production if setting is None else setting

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or value.get_secret_value().startswith(POSTGRES_SCHEMES):
            return value
        raise ValueError("API_SERVER_DATABASE_URL should begin with postgresql:// or postgresql+psycopg://.")


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


def is_production() -> bool:
    """Whether `ENV_TYPE` says production, for settings classes that refuse there what development may do."""
    return value_of("ENV_TYPE").casefold() == "production"


def libpq_url(database_url: str) -> str:
    """Spell a database URL without the name of a driver, as libpq and asyncpg read it."""
    return database_url.replace("postgresql+psycopg://", "postgresql://", 1)


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
        errors = error.errors(include_input=False, include_context=False, include_url=False)
        # A list of which several elements are wrong is one variable.
        return list(dict.fromkeys(_sentence(cls, item["loc"], item["msg"]) for item in errors))
    return []


def _sentence(cls: type[BaseSettings], location: tuple[int | str, ...], message: str) -> str:
    own_sentence = message.removeprefix("Value error, ")
    if not location or (own_sentence != message and len(location) == 1):
        return own_sentence
    variables = variables_of(cls)
    # A field with an alias is reported by it.
    by_field = {**dict(zip(cls.model_fields, variables, strict=True)), **{name: name for name in variables}}
    variable = by_field[str(location[0])]
    field = variables[variable]
    value = "" if "Secret" in str(field.annotation) else f" is {value_of(variable)!r}, and"
    if len(location) == 1 and message.startswith("Input should be "):
        rule = message.removeprefix("Input should be ").partition(", unable to")[0]
        return f"{variable}{value} should be {rule}: {field.description}."
    return f"{variable}{value} may be: {field.description}."


def _unknown(classes: Iterable[type[BaseSettings]]) -> list[str]:
    known = {variable for cls in classes for variable in variables_of(cls)}
    prefixes = {cls.model_config.get("env_prefix", "") for cls in classes} - {""}
    return [
        f"{name} is not a variable of this service; {_guess(name.upper(), prefix, known)}."
        for name, value in sorted(os.environ.items())
        for prefix in sorted(prefixes)
        if value and name.upper().startswith(prefix) and name.upper() not in known
    ]


def _guess(name: str, prefix: str, known: Iterable[str]) -> str:
    """Say which variable somebody may have meant, by what comes after the prefix, which is spelled right."""
    rests = {variable.removeprefix(prefix): variable for variable in sorted(known) if variable.startswith(prefix)}
    if near := get_close_matches(name.removeprefix(prefix), rests, n=2):
        return f"perhaps {' or '.join(rests[rest] for rest in near)} is meant"
    return f"`api-server-cli config` lists those that begin with {prefix}"
