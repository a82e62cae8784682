"""Identity by the access tokens of an OpenID provider: JWT (RFC 9068, RFC 8725)."""

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import Key
from joserfc.jws import JWSRegistry, deserialize_compact
from joserfc.jwt import JWTClaimsRegistry
from joserfc.util import urlsafe_b64decode

from api_server.exceptions import NotAuthenticatedError
from api_server.identity.authenticator import Credentials, Principal
from api_server.identity.jwks import KnownKeys
from api_server.identity.provider import Provider
from api_server.identity.remembered import Remembered
from api_server.identity.strict_json import parse_strictly

LEEWAY_S = 30
_MOST_TOKEN = 8 * 1024
_MOST_KID, _MOST_SUBJECT, _MOST_SCOPES = 256, 255, 256
_REMEMBERED, _REMEMBERED_S = 1024, 60.0
_LATEST = 253402300799  # the end of the year 9999

_TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_KINDS = {"jwt", "at+jwt", "application/at+jwt"}
# By these a token says itself which key it is to be believed by, or asks for what is not understood here.
_REFUSED_HEADERS = {"jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc"}
# By these an ID token is known, which tells a client who logged in, and gives access to nothing.
_OF_ID_TOKENS = {"nonce", "at_hash", "c_hash"}
# What Keycloak says of those of its tokens that are no access tokens.
_OTHER_TOKENS = ("ID", "Refresh", "Offline", "Logout")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}")  # RFC 6749, section 3.3

_REFUSED = "The access token is not accepted."


class OidcAuthenticator:
    """Believes access tokens that the provider signed for this service.

    A signature is verified in the event loop, for it takes about a tenth of a millisecond, as a thread would. A token
    that was accepted is remembered for a minute, by a digest, until it expires or its key is no longer the provider's.
    Keys are fetched without anybody waiting but who needs an unknown one.
    """

    challenge = 'Bearer realm="api_server"'

    def __init__(self, keys: KnownKeys, rules: "TokenRules") -> None:
        self._keys = keys
        self._rules = rules
        self._remembered: Remembered[_Accepted] = Remembered(_REMEMBERED)

    @classmethod
    def of(
        cls, issuer: str, audience: Collection[str], algorithms: Collection[str], jwks_url: str | None = None
    ) -> "OidcAuthenticator":
        """Believe what this issuer signs for this audience by one of these algorithms."""
        return cls(KnownKeys(Provider(issuer, jwks_url).keys), TokenRules(issuer, audience, algorithms))

    async def authenticate(self, credentials: Credentials | None) -> Principal:
        if credentials is None or credentials.scheme != "bearer":
            raise NotAuthenticatedError("This needs an access token: Authorization: Bearer <token>.")
        token = credentials.value
        if len(token) > _MOST_TOKEN or not _TOKEN.fullmatch(token):
            raise NotAuthenticatedError(_REFUSED)
        digest = self._remembered.digest(token)
        accepted = self._remembered.get(digest)
        if accepted is None or self._keys.known(accepted.kid) is not accepted.key:
            accepted = await self._verified(token)
            self._remembered.keep(digest, accepted, _REMEMBERED_S)
        if self._rules.is_over(accepted.expires_at):
            raise NotAuthenticatedError("The access token has expired.")
        return accepted.principal

    async def aclose(self) -> None:
        await self._keys.aclose()

    async def _verified(self, token: str) -> "_Accepted":
        kid = self._rules.kid_of(token)
        key = await self._keys.key(kid)
        if key is None:
            raise NotAuthenticatedError(_REFUSED)
        principal, expires_at = self._rules.principal_of(token, key)
        return _Accepted(principal, expires_at, kid, key)


@dataclass(frozen=True, slots=True)
class _Accepted:
    principal: Principal
    expires_at: float
    kid: str
    key: Key


class TokenRules:
    """What a token has to be."""

    def __init__(
        self,
        issuer: str,
        audience: Collection[str],
        algorithms: Collection[str],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._now = now
        self._allowed = frozenset(algorithms)
        self._algorithms = _NamedAlgorithms(algorithms=self._allowed, strict_check_header=False)
        self._claims = JWTClaimsRegistry(
            now=lambda: int(now()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "values": list(audience)},
            exp={"essential": True},
            sub={"essential": True},
        )

    def kid_of(self, token: str) -> str:
        """Return which key is to verify a token, if its header may be believed. Raises NotAuthenticatedError."""
        header = _header_of(token)
        algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "jwt")
        if (
            header.keys() & _REFUSED_HEADERS
            or not (isinstance(algorithm, str) and algorithm in self._allowed)
            or not (isinstance(kid, str) and 0 < len(kid) <= _MOST_KID)
            or not (isinstance(kind, str) and kind.lower() in _KINDS)
        ):
            raise NotAuthenticatedError(_REFUSED)
        return kid

    def principal_of(self, token: str, key: Key) -> tuple[Principal, float]:
        """Return who a token names, and until when, if this key signed it. Raises NotAuthenticatedError."""
        try:
            payload = deserialize_compact(token, key, registry=self._algorithms).payload
            claims = _object(parse_strictly(payload))
            self._claims.validate(claims)
        except (JoseError, ValueError, TypeError) as error:
            raise NotAuthenticatedError(_REFUSED) from error
        if claims.keys() & _OF_ID_TOKENS or claims.get("typ") in _OTHER_TOKENS or claims["exp"] > _LATEST:
            raise NotAuthenticatedError(_REFUSED)
        expires_at = float(claims["exp"]) + LEEWAY_S
        return Principal(_subject(claims["sub"]), _scopes(claims), expires_at), expires_at

    def is_over(self, expires_at: float) -> bool:
        """Whether this time has come."""
        return expires_at <= self._now()


class _NamedAlgorithms(JWSRegistry):
    """Allows the algorithms that are named, each of which the settings know to be a signature by a private key."""

    def get_alg(self, name: str) -> JWSAlgModel:
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError("this algorithm is not allowed")
        return self.algorithms[name]


def _header_of(token: str) -> Mapping[str, Any]:
    try:
        return _object(parse_strictly(urlsafe_b64decode(token.partition(".")[0].encode())))
    except ValueError as error:
        raise NotAuthenticatedError(_REFUSED) from error


def _object(document: object) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - as parsers raise
    return document


def _subject(subject: str) -> str:
    """Return the name of a user, which goes into logs and tables."""
    if not 0 < len(subject) <= _MOST_SUBJECT or not subject.isprintable():
        raise NotAuthenticatedError(_REFUSED)
    return subject


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return the scopes, which are a text with spaces between them (RFC 8693) or, in `scp`, a list as well."""
    given = claims.get("scope") or claims.get("scp") or ""
    scopes = given.split(" ") if isinstance(given, str) else given
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise NotAuthenticatedError(_REFUSED)
    # What is no scope grants nothing.
    return frozenset(scope for scope in scopes[:_MOST_SCOPES] if _SCOPE.fullmatch(scope))
