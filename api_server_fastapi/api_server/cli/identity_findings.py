"""What `doctor` says of who is believed."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from api_server.findings import Finding
from api_server.identity.credentials_file import CredentialsFileError, read_credentials
from api_server.settings import Settings


def identity_findings(settings: Settings) -> Iterator[Finding]:
    """Yield what may be otherwise than somebody thinks about who is believed."""
    if settings.believed == "none":
        variable = "ENV_TYPE" if settings.identity is None else "API_SERVER_IDENTITY"
        sentence = "There is no identity provider: in production, all but the probes answers 401."
        yield Finding("warning", (variable,), sentence)
    if settings.believed == "oidc" and settings.is_production and str(settings.oidc_issuer).startswith("http:"):
        sentence = "An issuer on this machine in production: whoever may listen there makes tokens as they like."
        yield Finding("warning", ("API_SERVER_OIDC_ISSUER",), sentence)
    if settings.believed == "basic" and settings.credentials_file is not None:
        yield from _of_credentials_file(settings.credentials_file)


def _of_credentials_file(file: Path) -> Iterator[Finding]:
    try:
        read = read_credentials(file)
    except CredentialsFileError as error:
        yield Finding("error", ("API_SERVER_CREDENTIALS_FILE",), str(error))
        return
    if not read.users:
        yield Finding("warning", ("API_SERVER_CREDENTIALS_FILE",), f"{file} names no user: all but the probes is 401.")
    if len({user.cost for user in read.users.values()}) > 1:
        sentence = f"Hashes of {file} cost differently: how long a refusal takes tells some names that are in it."
        yield Finding("warning", ("API_SERVER_CREDENTIALS_FILE",), sentence)
    if read.is_open_to_others:
        sentence = f"Everybody on this machine may read or write {file}: chmod o= would end that."
        yield Finding("warning", ("API_SERVER_CREDENTIALS_FILE",), sentence)


async def provider_findings(settings: Settings) -> Sequence[Finding]:
    """Ask the OpenID provider for its keys, where there is one, and return what is wrong with that."""
    if settings.believed != "oidc" or settings.oidc_issuer is None:
        return []
    from api_server.identity.provider import Provider, ProviderError  # noqa: PLC0415 - few have one to ask

    try:
        await Provider(settings.oidc_issuer, settings.oidc_jwks_url).keys()
    except ProviderError as error:
        variables = ("API_SERVER_OIDC_JWKS_URL",) if settings.oidc_jwks_url else ("API_SERVER_OIDC_ISSUER",)
        return [Finding("error", variables, f"The OpenID provider gives no keys: {error}.")]
    return []
