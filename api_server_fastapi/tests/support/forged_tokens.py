"""Access tokens as a provider signs them, and as those forge them who would be somebody else."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

ISSUER = "http://127.0.0.1:1"
AUDIENCE = "planner"


class _Anything(JWSRegistry):
    """Signs by any algorithm, and says nothing about it."""

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]

    def check_header(self, header: Any) -> None:
        """Let every header pass."""


@cache
def key(kid: str, kind: str = "RSA", **parameters: str) -> Key:
    """Make a private key, once for all tests: finding the primes of one takes a while."""
    parameters = {"kid": kid, "use": "sig", **parameters}
    match kind:
        case "RSA":
            return RSAKey.generate_key(2048, parameters)  # type: ignore[arg-type] # as its own docs call it
        case "Ed25519":
            return OKPKey.generate_key("Ed25519", parameters)  # type: ignore[arg-type] # likewise
        case _:
            return ECKey.generate_key(kind, parameters)  # type: ignore[arg-type] # likewise


def key_set(*keys: Key) -> dict[str, Any]:
    """Return what a provider publishes of its keys."""
    return {"keys": [key.as_dict() for key in keys]}


def published() -> dict[str, Any]:
    """Return the set of the provider that the attacks are tried with."""
    for_encryption = {**key("encryption").as_dict(), "use": "enc"}
    return {"keys": [*key_set(key("rsa"), key("ec", "P-256"))["keys"], for_encryption]}


def claims(**changes: Any) -> dict[str, Any]:
    """Return those of a good token, with changes; one that is changed to None is left out."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 300, "scope": "plans read"}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def signed(payload: Mapping[str, Any] | bytes, signer: Key, alg: str = "RS256", **header: Any) -> str:
    """Sign a payload; a header that is None is left out."""
    headers = {"alg": alg, "kid": signer.kid, "typ": "JWT", **header}
    content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    kept = {name: value for name, value in headers.items() if value is not None}
    return jws.serialize_compact(kept, content, signer, registry=_Anything())


def part(text: str | bytes) -> str:
    return base64.urlsafe_b64encode(text.encode() if isinstance(text, str) else text).rstrip(b"=").decode()


def unsigned(alg: str) -> str:
    return f"{part(json.dumps({'alg': alg, 'kid': 'rsa', 'typ': 'JWT'}))}.{part(json.dumps(claims()))}."


def with_changed_payload(token: str, payload: Mapping[str, Any]) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{part(json.dumps(payload))}.{signature}"


def with_duplicate(name: str, first: object, second: object) -> bytes:
    """Return claims of which one is there twice."""
    others = json.dumps(claims(**{name: None})).removesuffix("}")
    return f"{others}, {json.dumps(name)}: {json.dumps(first)}, {json.dumps(name)}: {json.dumps(second)}}}".encode()


def _mac_by_pem() -> str:
    pem = key("rsa").as_pem(private=False)  # type: ignore[union-attr] # an RSA key has one
    signing = f"{part(json.dumps({'alg': 'HS256', 'kid': 'rsa', 'typ': 'JWT'}))}.{part(json.dumps(claims()))}"
    return f"{signing}.{part(hmac.new(pem, signing.encode(), hashlib.sha256).digest())}"


def _signed_header(header: str) -> str:
    """Sign a token whose header is this text."""
    signing = f"{part(header)}.{part(json.dumps(claims()))}"
    signer = key("rsa").private_key
    assert isinstance(signer, RSAPrivateKey)
    signature = signer.sign(signing.encode(), PKCS1v15(), SHA256())
    return f"{signing}.{part(signature)}"


@dataclass(frozen=True)
class Attack:
    """A name, and what makes the `Authorization` headers."""

    name: str
    token: Callable[[], str] = field(repr=False)


def _by(name: str, **changes: Any) -> Attack:
    return Attack(name, lambda: signed(claims(**changes), key("rsa")))


def _with(name: str, alg: str = "RS256", signer: Callable[[], Key] = lambda: key("rsa"), **header: Any) -> Attack:
    return Attack(name, lambda: signed(claims(), signer(), alg, **header))


def _raw(name: str, payload: Callable[[], bytes]) -> Attack:
    return Attack(name, lambda: signed(payload(), key("rsa")))


def _now() -> int:
    return int(time.time())


OWN = "https://evil.example/keys"
ATTACKS = [
    Attack("alg none", lambda: unsigned("none")),
    Attack("alg None", lambda: unsigned("None")),
    Attack("alg none, and a signature", lambda: unsigned("none") + part(b"x" * 256)),
    Attack("HS256 with the PEM of the key", _mac_by_pem),
    Attack("RS256 without a signature", lambda: signed(claims(), key("rsa")).rpartition(".")[0] + "."),
    _with("an algorithm that is not named", alg="RS512"),
    _with("the algorithm of another type of key", alg="ES256", signer=lambda: key("ec", "P-256"), kid="rsa"),
    Attack("alg is no text", lambda: _signed_header('{"alg": ["RS256"], "kid": "rsa", "typ": "JWT"}')),
    _by("no audience", aud=None),
    _with("another key under the same kid", signer=lambda: key("stranger"), kid="rsa"),
    Attack("another payload", lambda: with_changed_payload(signed(claims(), key("rsa")), claims(sub="eve"))),
    _with("kid missing", kid=None),
    _with("kid empty", kid=""),
    _with("kid unknown", kid="nobody"),
    _with("kid is a path", kid="../../../../dev/null"),
    _with("kid is SQL", kid="rsa' UNION SELECT 'key"),
    _with("kid is no text", kid=["rsa"]),
    _with("kid of a key for encryption", signer=lambda: key("encryption")),
    Attack("jwk in the header", lambda: signed(claims(), key("stranger"), jwk=key("stranger").as_dict(), kid="rsa")),
    _with("jku in the header", jku=OWN),
    _with("x5u in the header", x5u=OWN),
    _with("x5c in the header", x5c=["MIIB"]),
    _with("crit that is unknown", crit=["exp"], exp=0),
    _with("crit that is known", crit=["b64"], b64=True),
    _with("compressed", zip="DEF"),
    _with("typ of another kind", typ="secevent+jwt"),
    _with("typ of a log-out token", typ="logout+jwt"),
    _with("typ is no text", typ=["JWT"]),
    _by("another issuer", iss="https://evil.example"),
    _by("an issuer that begins alike", iss=ISSUER + "/"),
    _by("several issuers", iss=[ISSUER, "https://evil.example"]),
    _by("no issuer", iss=None),
    _by("another audience", aud="billing"),
    _by("other audiences", aud=["billing", "planner2"]),
    _by("no audience in the list", aud=[]),
    _by("an audience that is an object", aud={"planner": True}),
    _by("an audience by azp only", aud="billing", azp=AUDIENCE, client_id=AUDIENCE),
    _by("no exp", exp=None),
    Attack("expired for longer than the leeway", lambda: signed(claims(exp=_now() - 31), key("rsa"))),
    Attack("valid later than the leeway", lambda: signed(claims(nbf=_now() + 40), key("rsa"))),
    Attack("made later than the leeway", lambda: signed(claims(iat=_now() + 40), key("rsa"))),
    _by("exp is text", exp="9999999999"),
    _by("exp is true", exp=True),
    _by("exp after the end of time", exp=10**30),
    _raw("exp is NaN", lambda: json.dumps(claims(exp=float("nan"))).encode()),
    _raw("exp is infinite", lambda: json.dumps(claims(exp=0)).replace('"exp": 0', '"exp": 1e999').encode()),
    _by("nbf is text", nbf="0"),
    _by("no sub", sub=None),
    _by("sub is empty", sub=""),
    _by("sub is a number", sub=7),
    _by("sub is too long", sub="a" * 256),
    _by("sub with a line break", sub="ada\nuser_id=root"),
    _by("sub with NUL", sub="ada\0"),
    _by("sub with half a character", sub="ada\ud800"),
    _by("sub that writes from right to left", sub="ada\u202eadmin"),
    _by("an ID token by its nonce", nonce="n"),
    _by("an ID token by its at_hash", at_hash="h"),
    _by("an ID token of Keycloak", typ="ID", azp=AUDIENCE),
    _by("a refresh token of Keycloak", typ="Refresh"),
    _by("scopes that are an object", scope={"admin": True}),
    _by("scopes of numbers", scope=None, scp=[1, 2]),
    _raw("claims twice", lambda: with_duplicate("sub", "ada", "eve")),
    _raw("exp twice", lambda: with_duplicate("exp", _now() - 300, _now() + 300)),
    Attack(
        "alg twice",
        lambda: _signed_header(f'{{"alg": "none", "alg": "RS256", "kid": "rsa", "typ": "JWT", "x": "{part("x")}"}}'),
    ),
    _raw("claims that are a list", lambda: b"[]"),
    _raw("claims that are no JSON", lambda: b"sub=ada"),
    _raw("claims in UTF-8 that is none", lambda: b'{"sub": "\xff"}'),
    _raw("claims nested without end", lambda: b"[" * 5000),
    Attack("more than 8 KiB", lambda: signed(claims(more="x" * 8192), key("rsa"))),
    Attack("64 KiB", lambda: signed(claims(more="x" * 49152), key("rsa"))),
    Attack("two parts", lambda: signed(claims(), key("rsa")).rpartition(".")[0]),
    Attack("four parts", lambda: signed(claims(), key("rsa")) + ".x"),
    Attack("encrypted", lambda: ".".join([part('{"alg":"RSA-OAEP","enc":"A256GCM","kid":"rsa"}'), "x", "x", "x", "x"])),
    Attack("no base64", lambda: "not.a.token"),
    Attack(
        "base64 of another alphabet", lambda: signed(claims(), key("rsa")).replace("_", "/").replace("-", "+") + "="
    ),
    Attack("a word", lambda: "admin"),
]
