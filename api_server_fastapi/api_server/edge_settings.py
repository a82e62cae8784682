"""`API_SERVER_*` about the edge: who is believed, how much may be asked, what operators see, how a process leaves."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from api_server.environment import comma_separated

# Where tokens and keys are fetched in clear only within the machine.
_PROVIDER = r"^(https://[^\s/?#]+|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?)(/[^\s?#]*)?$"

Identity = Literal["development", "basic", "oidc", "none"]
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


def has_port(url: str) -> bool:
    """Whether the port of a URL, where one is named, is a number from 1 to 65535."""
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _with_port(url: str) -> str:
    if not has_port(url):
        raise PydanticCustomError("url_port", "Input should be a URL whose port is 1 to 65535")
    return url


ProviderUrl = Annotated[str, StringConstraints(pattern=_PROVIDER), AfterValidator(_with_port)]


class IdentitySettings(BaseModel):
    """Who is believed, and by what."""

    identity: Identity | None = Field(
        default=None,
        description="who is believed: everybody (`development`), a credentials file (`basic`), an OpenID provider "
        "(`oidc`), nobody (`none`); unset: `development`, in production `none`",
    )
    credentials_file: Path | None = Field(
        default=None, description="for `basic`: the file of users, hashes and scopes; `api-server-cli user` writes it"
    )
    oidc_issuer: ProviderUrl | None = Field(
        default=None, description="for `oidc`: the provider, exactly as its tokens name it in `iss`"
    )
    oidc_audience: Annotated[tuple[str, ...], NoDecode, BeforeValidator(comma_separated)] = Field(
        default=(), description="for `oidc`: this service as tokens name it in `aud`, or several names for it"
    )
    oidc_algorithms: Annotated[tuple[Algorithm, ...], NoDecode, BeforeValidator(comma_separated)] = Field(
        default=("RS256", "ES256"), description="for `oidc`: the algorithms that its signatures may have"
    )
    oidc_jwks_url: ProviderUrl | None = Field(
        default=None, description="for `oidc`: where its keys are; unset: where its discovery document says"
    )

    @model_validator(mode="after")
    def _has_a_use_for_all_of_it(self) -> Self:
        """Refuse what would be left unused: whoever sets it expects to be believed by it."""
        if self.credentials_file is not None and self.identity != "basic":
            raise ValueError("API_SERVER_CREDENTIALS_FILE is set, so API_SERVER_IDENTITY should be basic.")
        if (self.oidc_issuer or self.oidc_audience or self.oidc_jwks_url) and self.identity != "oidc":
            raise ValueError("API_SERVER_OIDC_* is set, so API_SERVER_IDENTITY should be oidc.")
        return self

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.identity == "basic" and self.credentials_file is None:
            raise ValueError("API_SERVER_IDENTITY is basic, so API_SERVER_CREDENTIALS_FILE should name a file.")
        if self.identity == "oidc" and not (self.oidc_issuer and any(self.oidc_audience)):
            raise ValueError(
                "API_SERVER_IDENTITY is oidc, so API_SERVER_OIDC_ISSUER and API_SERVER_OIDC_AUDIENCE should be set: a "
                "token of another issuer, or for another service, must not be accepted."
            )
        return self


class LimitSettings(BaseModel):
    """How much anybody may ask."""

    body_limit: int = Field(default=2**20, ge=1024, le=2**30, description="bytes that the body of a request may have")
    graphql_body_limit: int = Field(
        default=64 * 1024, ge=1024, le=2**30, description="the same for a body that is posted to `/graphql`"
    )
    graphql_tokens: int = Field(default=400, ge=10, le=10_000, description="tokens of a GraphQL document at most")
    graphql_depth: int = Field(default=10, ge=1, le=100, description="how deep its selections may be nested")
    graphql_fields: int = Field(default=200, ge=1, le=10_000, description="fields that it may select")
    graphql_root_fields: int = Field(default=10, ge=1, le=1000, description="fields of the root that it may select")
    graphql_aliases: int = Field(default=15, ge=0, le=1000, description="aliases that it may have")
    graphql_directives: int = Field(default=20, ge=0, le=1000, description="directives that it may have")
    graphql_introspection: bool | None = Field(
        default=None, description="let clients ask for the schema; unset: yes, in production no"
    )
    graphql_ide: bool | None = Field(
        default=None, description="show GraphiQL to browsers at `/graphql`; unset: yes, in production no"
    )
    graphql_suggestions: bool | None = Field(
        default=None, description="name the fields that a client may have meant; unset: yes, in production no"
    )
    graphql_socket_operations: int = Field(
        default=100, ge=1, le=10_000, description="operations that may run on one socket"
    )
    graphql_principal_sockets: int = Field(
        default=128, ge=1, le=100_000, description="sockets that one user may have open in each serving process"
    )
    graphql_socket_messages: int = Field(
        default=100, ge=1, le=100_000, description="messages that a client may send on a socket in a second"
    )


class ObservabilitySettings(BaseModel):
    """What operators see."""

    telemetry: Literal["off", "console", "otlp"] = Field(
        default="off",
        description="where spans go: nowhere, to standard output, or to the collector that the variables "
        "`OTEL_EXPORTER_OTLP_*` name",
    )
    telemetry_ratio: float = Field(
        default=0.1, ge=0, le=1, description="of the traces that begin here, this part is recorded"
    )
    loop_watchdog_ms: int = Field(
        default=250,
        ge=0,
        le=60_000,
        description="milliseconds after which who blocks the event loop is logged; 0: never",
    )


class LeavingSettings(BaseModel):
    """How a process leaves."""

    drain_delay_s: float | None = Field(
        default=None,
        ge=0,
        le=600,
        description="seconds between saying that it leaves and listening no more; unset: 0, in production 3",
    )
    leave_within_s: float = Field(
        default=15.0, ge=1, le=3600, description="seconds after which a process that was asked to leave is gone"
    )
