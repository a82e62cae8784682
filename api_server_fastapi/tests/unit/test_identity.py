"""The Authenticator port's adapters."""

import base64

import pytest
from api_server.exceptions import NotAuthenticatedError
from api_server.identity import (
    Credentials,
    DevelopmentAuthenticator,
    NoProviderAuthenticator,
    Principal,
    credentials_from_header,
)


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


def test_credentials_do_not_show_their_secret() -> None:
    assert "hush" not in repr(Credentials("bearer", "hush"))
