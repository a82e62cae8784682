"""Which access tokens are believed, and which never are (threat T12)."""

import time
from collections.abc import Mapping

import pytest
from api_server.exceptions import IdentityUnavailableError, NotAuthenticatedError
from api_server.identity import Credentials, Principal
from api_server.identity.jwks import KnownKeys
from api_server.identity.oidc import OidcAuthenticator, TokenRules
from api_server.identity.provider import ProviderError, keys_of
from forged_tokens import ATTACKS, AUDIENCE, ISSUER, Attack, claims, key, key_set, published, signed
from joserfc.jwk import Key

ALGORITHMS = ("RS256", "ES256")


@pytest.fixture(scope="module", autouse=True)
def _keys() -> None:
    """Make the keys where no event loop waits for them."""
    for kid in ("rsa", "stranger", "encryption"):
        key(kid)


class Clock:
    def __init__(self) -> None:
        self.time = time.time()

    def __call__(self) -> float:
        return self.time


def believing(
    published_keys: Mapping[str, object] | None = None,
    algorithms: tuple[str, ...] = ALGORITHMS,
    audience: tuple[str, ...] = (AUDIENCE,),
    clock: Clock | None = None,
) -> OidcAuthenticator:
    async def fetch() -> Mapping[str, Key]:
        return keys_of(published() if published_keys is None else published_keys)

    return OidcAuthenticator(KnownKeys(fetch), TokenRules(ISSUER, audience, algorithms, clock or time.time))


async def principal_of(token: str, authenticator: OidcAuthenticator | None = None) -> Principal:
    return await (authenticator or believing()).authenticate(Credentials("bearer", token))


async def test_a_token_of_the_provider_for_this_service_is_believed() -> None:
    payload = claims()
    principal = await principal_of(signed(payload, key("rsa")))
    assert (principal.user_id, principal.scopes) == ("ada", frozenset({"plans", "read"}))
    assert principal.expires_at == payload["exp"] + 30


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_no_forged_token_is_believed(attack: Attack) -> None:
    token = attack.token()
    with pytest.raises(NotAuthenticatedError) as refused:
        await principal_of(token)
    assert refused.value.reason == "The access token is not accepted."


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["billing", AUDIENCE]},
        {"exp": int(time.time()) + 3600.5},
        {"azp": "some client", "client_id": "some client"},
        {"typ": "Bearer", "azp": "a client of Keycloak"},
        {"sub": "auth0|507f1f77bcf86cd799439020"},
        {"sub": "Ünïcode"},
        {"iat": None, "scope": None},
    ],
    ids=str,
)
async def test_good_tokens_differ(changes: dict[str, object]) -> None:
    assert (await principal_of(signed(claims(**changes), key("rsa")))).user_id == changes.get("sub", "ada")


@pytest.mark.parametrize("typ", [None, "JWT", "jwt", "at+jwt", "application/at+jwt"])
async def test_the_type_of_an_access_token_may_be_left_out(typ: str | None) -> None:
    assert await principal_of(signed(claims(), key("rsa"), typ=typ))


@pytest.mark.parametrize("changes", [{"exp": -29}, {"nbf": 29}, {"iat": 29}], ids=str)
async def test_clocks_may_differ_by_half_a_minute(changes: dict[str, int]) -> None:
    near = {name: int(time.time()) + seconds for name, seconds in changes.items()}
    assert await principal_of(signed(claims(**near), key("rsa")))


@pytest.mark.parametrize(
    ("alg", "kind"),
    [
        ("RS512", "RSA"),
        ("PS256", "RSA"),
        ("ES256", "P-256"),
        ("ES384", "P-384"),
        ("ES512", "P-521"),
        ("EdDSA", "Ed25519"),
    ],
)
async def test_each_algorithm_is_understood_where_it_is_named(alg: str, kind: str) -> None:
    signer = key("rsa" if kind == "RSA" else kind, kind)
    token = signed(claims(), signer, alg)
    assert await principal_of(token, believing(key_set(signer), (alg,)))
    with pytest.raises(NotAuthenticatedError):
        await principal_of(token, believing(key_set(signer), ("RS384",)))


async def test_a_service_may_have_several_names() -> None:
    authenticator = believing(audience=("old", AUDIENCE))
    assert await principal_of(signed(claims(aud="old"), key("rsa")), authenticator)
    assert await principal_of(signed(claims(), key("rsa")), authenticator)


@pytest.mark.parametrize(
    ("changes", "scopes"),
    [
        ({"scope": "a  b"}, {"a", "b"}),
        ({"scope": None, "scp": ["a", "b"]}, {"a", "b"}),
        ({"scope": None, "scp": "a b"}, {"a", "b"}),
        ({"scope": "a", "scp": ["b"]}, {"a"}),
        ({"scope": ""}, set()),
        ({"scope": None}, set()),
        ({"scope": "a b\nc d"}, {"a", "d"}),
    ],
    ids=str,
)
async def test_scopes_are_a_text_or_a_list(changes: dict[str, object], scopes: set[str]) -> None:
    assert (await principal_of(signed(claims(**changes), key("rsa")))).scopes == scopes


@pytest.mark.parametrize("parameters", [{"use": "enc"}, {"alg": "RS512"}, {"key_ops": ["sign"]}])
async def test_a_key_does_what_it_is_published_for_only(parameters: dict[str, object]) -> None:
    entry = {**key("rsa").as_dict(), **parameters}
    if "key_ops" in parameters:
        del entry["use"]
    authenticator = believing({"keys": [entry, *key_set(key("stranger"))["keys"]]})
    assert await principal_of(signed(claims(), key("stranger")), authenticator)
    with pytest.raises(NotAuthenticatedError):
        await principal_of(signed(claims(), key("rsa")), authenticator)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "key",
        {},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "x"},
        {"kty": "RSA", "n": "_" * 170 + "8", "e": "AQAB", "kid": "of 1024 bits"},
        {"kty": "RSA", "n": "not base64!", "e": "AQAB", "kid": "x"},
        {"kty": "RSA", "kid": "x"},
        {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ", "kid": "x"},
        {"kty": "EC", "crv": "P-1", "x": "AQ", "y": "AQ", "kid": "x"},
        {"kty": ["RSA"], "kid": "x"},
        {"kty": "RSA", "n": ["x"], "e": 1, "kid": "x"},
    ],
    ids=str,
)
async def test_a_key_that_cannot_be_used_spoils_no_other(entry: object) -> None:
    authenticator = believing({"keys": [entry, *key_set(key("rsa"))["keys"]]})
    assert await principal_of(signed(claims(), key("rsa")), authenticator)
    with pytest.raises(ProviderError):
        keys_of({"keys": [entry]})


def test_a_key_for_encryption_is_none_for_signatures() -> None:
    with pytest.raises(ProviderError):
        keys_of({"keys": [{**key("encryption").as_dict(), "use": "enc"}]})


def test_a_private_key_that_is_published_proves_nothing() -> None:
    with pytest.raises(ProviderError):
        keys_of({"keys": [key("rsa").as_dict(private=True)]})


@pytest.mark.parametrize("credentials", [None, Credentials("basic", "YWRhOng=")])
async def test_without_a_token_nobody_is_believed(credentials: Credentials | None) -> None:
    with pytest.raises(NotAuthenticatedError, match="access token"):
        await believing().authenticate(credentials)


class CountingRules(TokenRules):
    verified = 0

    def principal_of(self, token: str, key: Key) -> tuple[Principal, float]:
        self.verified += 1
        return super().principal_of(token, key)


async def test_a_token_is_verified_once_and_believed_until_it_expires() -> None:
    async def fetch() -> Mapping[str, Key]:
        return keys_of(published())

    clock = Clock()
    rules = CountingRules(ISSUER, (AUDIENCE,), ALGORITHMS, clock)
    authenticator = OidcAuthenticator(KnownKeys(fetch), rules)
    token = signed(claims(exp=int(clock.time) + 10), key("rsa"))
    assert await principal_of(token, authenticator) is await principal_of(token, authenticator)
    assert rules.verified == 1
    clock.time += 41
    with pytest.raises(NotAuthenticatedError, match="expired"):
        await principal_of(token, authenticator)
    assert rules.verified == 1


async def test_a_provider_that_never_answered_makes_nobody_a_stranger() -> None:
    async def fetch() -> Mapping[str, Key]:
        raise ProviderError("it is down")

    authenticator = OidcAuthenticator(KnownKeys(fetch), TokenRules(ISSUER, (AUDIENCE,), ALGORITHMS))
    with pytest.raises(IdentityUnavailableError):
        await principal_of(signed(claims(), key("rsa")), authenticator)
    # What is no token at all needs no provider.
    with pytest.raises(NotAuthenticatedError):
        await principal_of("nonsense", authenticator)


@pytest.mark.parametrize(
    "name", ["alg none, and a signature", "jku in the header", "kid is no text", "typ of another kind", "64 KiB"]
)
async def test_what_could_never_be_believed_has_no_keys_fetched(name: str) -> None:
    fetched = []

    async def fetch() -> Mapping[str, Key]:
        fetched.append(name)
        return keys_of(published())

    authenticator = OidcAuthenticator(KnownKeys(fetch), TokenRules(ISSUER, (AUDIENCE,), ALGORITHMS))
    (attack,) = [attack for attack in ATTACKS if attack.name == name]
    with pytest.raises(NotAuthenticatedError):
        await principal_of(attack.token(), authenticator)
    assert not fetched
