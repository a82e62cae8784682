"""The Authenticator port's adapters."""

import base64
from pathlib import Path

import pytest
from api_server.exceptions import NotAuthenticatedError
from api_server.identity import (
    Credentials,
    DevelopmentAuthenticator,
    NoProviderAuthenticator,
    Principal,
    authenticator_of,
    challenge_after,
    credentials_from_header,
    credentials_from_headers,
)
from api_server.settings import Settings


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("header", "user_id"),
    [
        (None, "developer"),
        (basic("ada:secret"), "ada"),
        (basic("ada@example.org:"), "ada@example.org"),
        ("Bearer grace", "grace"),
        ("bearer   grace  ", "grace"),
    ],
)
async def test_in_development_everybody_is_who_they_say(header: str | None, user_id: str) -> None:
    principal = await DevelopmentAuthenticator().authenticate(credentials_from_header(header))
    assert principal.user_id == user_id
    assert principal.has_scope("anything")
    assert not principal.has_scope("admin")


async def test_in_development_who_says_to_be_admin_is() -> None:
    principal = await DevelopmentAuthenticator().authenticate(credentials_from_header("Bearer admin"))
    assert principal.has_scope("admin")
    assert principal.has_scope("anything")


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic !!!", "Digest x", basic(":x"), "Bearer a b", "Bearer ä", "Basic /w=="]
)
async def test_what_cannot_be_read_is_refused_even_in_development(header: str) -> None:
    with pytest.raises(NotAuthenticatedError):
        await DevelopmentAuthenticator().authenticate(credentials_from_header(header))


@pytest.mark.parametrize("credentials", [None, Credentials("bearer", "x")])
async def test_without_a_provider_nobody_is_accepted(credentials: Credentials | None) -> None:
    with pytest.raises(NotAuthenticatedError, match="no identity provider"):
        await NoProviderAuthenticator().authenticate(credentials)


def test_a_principal_has_the_scopes_given() -> None:
    principal = Principal("ada", frozenset({"plans"}))
    assert principal.has_scope("plans")
    assert not principal.has_scope("admin")
    assert principal.expires_at is None


def test_every_scope_is_every_one_but_admin() -> None:
    assert Principal("ada", frozenset({"*"})).has_scope("plans")
    assert not Principal("ada", frozenset({"*"})).has_scope("admin")
    assert Principal("ada", frozenset({"admin"})).has_scope("admin")
    assert not Principal("ada", frozenset({"admin"})).has_scope("plans")


def test_a_request_has_one_authorization_header() -> None:
    assert credentials_from_headers([]) is None
    assert credentials_from_headers(["Bearer x"]) == Credentials("bearer", "x")
    for headers in (["Bearer x", "Bearer x"], ["Bearer x", ""]):
        with pytest.raises(NotAuthenticatedError, match="one Authorization header"):
            credentials_from_headers(headers)


@pytest.mark.parametrize(
    ("challenge", "scheme", "says"),
    [
        ("Bearer", None, "Bearer"),
        ("Bearer", "basic", "Bearer"),
        ("Bearer", "bearer", 'Bearer error="invalid_token"'),
        ('Bearer realm="x"', "bearer", 'Bearer realm="x", error="invalid_token"'),
        ('Basic realm="x"', "bearer", 'Basic realm="x"'),
    ],
)
def test_only_who_gave_a_token_is_told_that_it_is_none(challenge: str, scheme: str | None, says: str) -> None:
    assert challenge_after(challenge, Credentials(scheme, "x") if scheme else None) == says


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "DevelopmentAuthenticator"),
        ({"ENV_TYPE": "production"}, "NoProviderAuthenticator"),
        ({"API_SERVER_IDENTITY": "none"}, "NoProviderAuthenticator"),
        ({"API_SERVER_IDENTITY": "basic", "API_SERVER_CREDENTIALS_FILE": "credentials"}, "BasicAuthenticator"),
        (
            {
                "API_SERVER_IDENTITY": "oidc",
                "API_SERVER_OIDC_ISSUER": "https://id.example",
                "API_SERVER_OIDC_AUDIENCE": "x",
            },
            "OidcAuthenticator",
        ),
    ],
)
def test_the_settings_choose_who_is_believed(
    environment: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("credentials").touch(mode=0o600)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert type(authenticator_of(Settings())).__name__ == name


def test_credentials_do_not_show_their_secret() -> None:
    assert "hush" not in repr(Credentials("bearer", "hush"))
