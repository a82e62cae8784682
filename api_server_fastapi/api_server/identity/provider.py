"""How an OpenID provider is asked for its keys: over TLS, following nothing, for no longer and no more than needed."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import httpx2
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.util import base64_to_int

from api_server.edge_settings import has_port
from api_server.identity.strict_json import parse_strictly

_TIMEOUT_S = 5.0
_MOST_BYTES = 256 * 1024
_MOST_KEYS = 100
# Shorter ones are broken, longer ones cost more than a signature may.
_RSA_BITS = range(2048, 8193)
_SECURE = re.compile(r"https://[^\s/?#@]+(/[^\s#]*)?")
_LOOPBACK = re.compile(r"http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/[^\s#]*)?")
_KEY_TYPES: Mapping[str, type[RSAKey | ECKey | OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}


class ProviderError(Exception):
    """The provider does not answer, or not as a provider does; the message is for operators."""


class Provider:
    """An OpenID provider, of which the issuer is known, and perhaps where its keys are.

    Redirects are not followed, an answer has 256 KiB at most, and 5 seconds. Variables like `HTTPS_PROXY` and
    `SSL_CERT_FILE` count, but not where the issuer is on this machine.
    """

    def __init__(self, issuer: str, jwks_url: str | None = None) -> None:
        self._issuer = issuer
        self._configured_url = self._url = jwks_url
        self._is_local = _LOOPBACK.fullmatch(jwks_url or issuer) is not None
        # Reading the certificates of all authorities takes longer than the event loop may wait.
        self._trusted = False if self._is_local else httpx2.create_ssl_context()

    async def keys(self) -> Mapping[str, Key]:
        """Fetch the keys for signatures, by their ids. Raises ProviderError."""
        # Where the keys are may have changed as well, until they are there.
        url, self._url = self._url, self._configured_url
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                url = url or await self._discovered_url()
                keys = keys_of(await self._fetch(url))
        except TimeoutError as error:
            raise ProviderError(f"it did not answer within {_TIMEOUT_S:.0f} s") from error
        self._url = url
        return keys

    async def _discovered_url(self) -> str:
        document = await self._fetch(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if document.get("issuer") != self._issuer:
            raise ProviderError("its discovery document is that of another issuer")
        url = document.get("jwks_uri")
        # In clear within the machine only, where nothing else is fetched then.
        if isinstance(url, str) and (_LOOPBACK if self._is_local else _SECURE).fullmatch(url) and has_port(url):
            return url
        raise ProviderError("its discovery document names no jwks_uri that begins with https://")

    async def _fetch(self, url: str) -> dict[str, Any]:
        # Compressed, a little of it would become much.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        try:
            async with self._client() as client, client.stream("GET", url, headers=headers) as answer:
                if answer.status_code != httpx2.codes.OK:
                    raise ProviderError(f"{_shown(url)} answers {answer.status_code}")
                document = parse_strictly(await _content(answer))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ProviderError(f"{_shown(url)} cannot be reached: {type(error).__name__}") from error
        except ValueError as error:
            raise ProviderError(f"{_shown(url)} answers no JSON") from error
        if not isinstance(document, dict):
            raise ProviderError(f"{_shown(url)} answers no JSON object")
        return document

    def _client(self) -> httpx2.AsyncClient:
        try:
            return httpx2.AsyncClient(
                verify=self._trusted, trust_env=not self._is_local, follow_redirects=False, timeout=_TIMEOUT_S
            )
        except (ValueError, ImportError) as error:
            raise ProviderError("the variables that name a proxy cannot be used") from error


async def _content(answer: httpx2.Response) -> bytes:
    content = bytearray()
    async for part in answer.aiter_raw():
        content += part
        if len(content) > _MOST_BYTES:
            raise ProviderError(f"it answers more than {_MOST_BYTES} bytes")
    return bytes(content)


def _shown(url: str) -> str:
    """Return a URL without who logs in by it."""
    return re.sub(r"(?<=://)[^/]*@", "", url)


def keys_of(document: Mapping[str, Any]) -> Mapping[str, Key]:
    """Read a set of keys (RFC 7517) by their ids, leaving out what signatures cannot be verified with.

    Raises ProviderError where nothing is left.
    """
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise ProviderError("it answers no set of keys")
    found = (_key(entry) for entry in entries[:_MOST_KEYS])
    keys = {key.kid: key for key in found if key is not None and key.kid}
    if not keys:
        raise ProviderError("its set has no key that signatures can be verified with")
    return keys


def _key(entry: object) -> Key | None:
    # A private key that everybody may read proves nothing.
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    try:
        if entry["kty"] == "RSA" and base64_to_int(entry["n"]).bit_length() not in _RSA_BITS:
            return None
        return _KEY_TYPES[entry["kty"]].import_key(entry)
    except (JoseError, ValueError, TypeError, KeyError):
        # One that cannot be used says nothing about the others.
        return None
