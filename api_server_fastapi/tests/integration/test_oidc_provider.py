"""A provider over real sockets: found by its issuer, asked with care, and done without for a while."""

import asyncio
import gzip
import json
from collections.abc import Callable, Iterator

import pytest
from api_server.app import create_app
from api_server.exceptions import NotAuthenticatedError
from api_server.foundation import FOUNDATION
from api_server.identity import Credentials
from api_server.identity import provider as provider_module
from api_server.identity.jwks import KnownKeys
from api_server.identity.oidc import OidcAuthenticator, TokenRules
from api_server.identity.provider import Provider, ProviderError
from api_server.settings import get_settings
from api_server.testing import Serve
from forged_tokens import ATTACKS, AUDIENCE, ISSUER, claims, key, key_set, published, signed
from scripted_provider import DISCOVERY, JWKS, ScriptedProvider, running_provider

A, B = key("a", "P-256"), key("b", "P-256")
COMPRESSED = gzip.compress(json.dumps(key_set(A)).encode())

Misbehave = Callable[[ScriptedProvider], None]


def answer(document: object, **headers: str) -> Misbehave:
    return lambda provider: vars(provider).update(answers={JWKS: document}, headers=headers)


def behave(**changes: object) -> Misbehave:
    return lambda provider: vars(provider).update(changes)


def stall(provider: ScriptedProvider) -> None:
    provider.may_answer.clear()


GARBAGE = {
    "HTML": answer(b"<html>login</html>"),
    "nothing": answer(b""),
    "a list": answer([]),
    "no keys": answer({"keys": []}),
    "keys that are none": answer({"keys": {"a": 1}}),
    "names twice": answer(b'{"keys": [], "keys": []}'),
    "more than it may": answer({**key_set(A), "more": "x" * 2**18}),
    "a little that may become much": answer(COMPRESSED, **{"Content-Encoding": "gzip"}),
    "nested without end": answer(b"[" * 100_000),
    "a redirect": behave(status=302, headers={"Location": "/other"}),
    "an error": behave(status=500),
}


@pytest.fixture(scope="module", autouse=True)
def _keys() -> None:
    """Make the keys where no event loop waits for them."""
    for kid in ("rsa", "stranger", "encryption"):
        key(kid)


async def test_garbage_is_no_set_of_keys(serve: Serve) -> None:
    async with running_provider(serve) as provider:
        asking = Provider(ISSUER, provider.url + JWKS)
        for misbehave in GARBAGE.values():
            provider.become(key_set(A))
            assert (await asking.keys()).keys() == {"a"}
            misbehave(provider)
            with pytest.raises(ProviderError):
                await asking.keys()
        assert provider.asked == [JWKS, JWKS] * len(GARBAGE)


async def test_keys_are_found_by_the_issuer(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing stands between this machine and itself.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with running_provider(serve, jwks=key_set(A)) as provider:
        asking = Provider(provider.url)
        for _ in range(2):
            assert (await asking.keys()).keys() == {"a"}
        assert provider.asked == [DISCOVERY, JWKS, JWKS]


async def test_where_keys_are_is_asked_again_when_they_are_not_there(serve: Serve) -> None:
    async with running_provider(serve, jwks=key_set(A)) as provider:
        asking = Provider(provider.url)
        await asking.keys()
        provider.answers[DISCOVERY]["jwks_uri"] = f"{provider.url}/moved"
        provider.answers |= {"/moved": key_set(B), JWKS: ""}
        with pytest.raises(ProviderError):
            await asking.keys()
        assert (await asking.keys()).keys() == {"b"}


async def test_a_url_of_keys_that_is_set_is_the_only_one_asked(serve: Serve) -> None:
    async with running_provider(serve, jwks=key_set(A)) as provider:
        assert (await Provider("https://issuer.example", provider.url + JWKS).keys()).keys() == {"a"}
        assert provider.asked == [JWKS]


LEADS_ELSEWHERE: list[dict[str, object]] = [
    {"issuer": "https://evil.example"},
    {"issuer": None},
    {"jwks_uri": None},
    {"jwks_uri": "http://169.254.169.254/latest/meta-data"},
    {"jwks_uri": "http://localhost.evil.example/jwks"},
    {"jwks_uri": "http://127.0.0.1@evil.example/jwks"},
    {"jwks_uri": "file:///etc/passwd"},
    {"jwks_uri": "http://127.0.0.1:65536/jwks"},
    {"jwks_uri": ["http://127.0.0.1/"]},
]


async def test_a_discovery_document_leads_nowhere_else(serve: Serve) -> None:
    async with running_provider(serve, jwks=key_set(A)) as provider:
        good = provider.answers[DISCOVERY]
        for changes in LEADS_ELSEWHERE:
            provider.answers[DISCOVERY] = {**good, **changes}
            with pytest.raises(ProviderError, match="discovery document"):
                await Provider(provider.url).keys()
        assert provider.asked == [DISCOVERY] * len(LEADS_ELSEWHERE)


async def test_a_provider_that_is_down_or_slow_is_told_of(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_module, "_TIMEOUT_S", 0.05)
    async with running_provider(serve, jwks=key_set(A)) as provider:
        provider.may_answer.clear()
        asking = Provider(ISSUER, provider.url + JWKS)
        with pytest.raises(ProviderError, match=r"did not answer|Timeout"):
            await asking.keys()
        provider.become(key_set(A))
        provider.drips = True
        with pytest.raises(ProviderError, match="did not answer"):
            await asyncio.wait_for(asking.keys(), 5)
        provider.drips = False
    with pytest.raises(ProviderError, match="cannot be reached: ConnectError"):
        await asking.keys()


async def test_a_proxy_that_cannot_be_one_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "gopher://127.0.0.1:1")
    with pytest.raises(ProviderError, match="name a proxy"):
        await Provider("https://issuer.example").keys()
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with pytest.raises(ProviderError, match="cannot be reached: ConnectError"):
        await Provider("https://issuer.example").keys()


class Impatient:
    """A clock that a test moves on."""

    time = 0.0

    def __call__(self) -> float:
        return self.time


async def test_known_keys_keep_working_whatever_the_provider_does(serve: Serve) -> None:
    old, fresh = (Credentials("bearer", signed(claims(sub=name), A, "ES256")) for name in ("ada", "grace"))
    new = Credentials("bearer", signed(claims(), B, "ES256"))
    async with running_provider(serve) as provider:
        for misbehave in (*GARBAGE.values(), stall):
            clock = Impatient()
            provider.become(key_set(A))
            keys = KnownKeys(Provider(ISSUER, provider.url + JWKS).keys, clock)
            authenticator = OidcAuthenticator(keys, TokenRules(ISSUER, (AUDIENCE,), ("ES256",)))
            await authenticator.authenticate(old)
            misbehave(provider)
            clock.time += 301
            asked = len(provider.asked)
            for credentials in (old, fresh):
                assert await authenticator.authenticate(credentials)
            while len(provider.asked) == asked:
                await asyncio.sleep(0.001)
            assert await authenticator.authenticate(old)
            # A new key is found, and one that is gone is not believed any more, however well it is remembered.
            provider.become(key_set(B))
            while keys._fetching:
                await asyncio.sleep(0.001)
            clock.time += 10
            assert await authenticator.authenticate(new)
            for credentials in (old, fresh):
                with pytest.raises(NotAuthenticatedError):
                    await authenticator.authenticate(credentials)


class TestAService:
    """The whole of it, over HTTP."""

    @pytest.fixture(autouse=True)
    def _environment(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("ENV_TYPE", "production")
        monkeypatch.setenv("API_SERVER_IDENTITY", "oidc")
        monkeypatch.setenv("API_SERVER_OIDC_ISSUER", ISSUER)
        monkeypatch.setenv("API_SERVER_OIDC_AUDIENCE", AUDIENCE)
        get_settings.cache_clear()
        yield
        get_settings.cache_clear()

    async def test_every_forged_token_is_answered_401_and_no_token_is_logged(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("API_SERVER_LOG_LEVEL", "DEBUG")
        good = signed(claims(), key("rsa"))
        tokens = {attack.name: attack.token() for attack in ATTACKS}
        async with running_provider(serve, jwks=published()) as provider:
            monkeypatch.setenv("API_SERVER_OIDC_JWKS_URL", provider.url + JWKS)
            async with serve(create_app(FOUNDATION)) as client:

                async def status(token: str) -> int:
                    answer = await client.get("/version", headers={"Authorization": f"Bearer {token}"})
                    if answer.status_code == 401:
                        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api_server", error="invalid_token"'
                        assert answer.json()["code"] == "UNAUTHENTICATED"
                    return answer.status_code

                answered = {name: await status(token) for name, token in tokens.items()}
                assert answered == dict.fromkeys(tokens, 401)
                assert await status(good) == 200
        assert provider.asked == [JWKS]
        told = "".join(capfd.readouterr())
        assert "user_id" in told
        parts = {part for token in [good, *tokens.values()] for part in token.split(".") if len(part) > 16}
        assert not [part for part in parts if part in told]

    async def test_credentials_come_in_one_header(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        token = signed(claims(), key("rsa"))
        async with running_provider(serve, jwks=published()) as provider:
            monkeypatch.setenv("API_SERVER_OIDC_JWKS_URL", provider.url + JWKS)
            async with serve(create_app(FOUNDATION)) as client:
                headers = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
                assert (await client.get("/version", headers=headers)).status_code == 401
                nobody = await client.get("/version")
                assert (nobody.status_code, nobody.headers["WWW-Authenticate"]) == (401, 'Bearer realm="api_server"')
                by_password = await client.get("/version", auth=("ada", "x"))
                assert by_password.headers["WWW-Authenticate"] == 'Bearer realm="api_server"'

    async def test_without_the_provider_nobody_can_be_told(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        async with running_provider(serve) as provider:
            monkeypatch.setenv("API_SERVER_OIDC_JWKS_URL", provider.url + JWKS)
            async with serve(create_app(FOUNDATION)) as client:
                headers = {"Authorization": f"Bearer {signed(claims(), key('rsa'))}"}
                answer = await client.get("/version", headers=headers)
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
                assert answer.json()["code"] == "IDENTITY_UNAVAILABLE"
                assert "keys" not in answer.text
                assert (await client.get("/livez", headers=headers)).status_code == 200
                # What anybody may read is answered, though without what only some may see.
                assert (await client.get("/readyz", headers=headers)).json()["state"]
