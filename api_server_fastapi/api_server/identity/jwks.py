"""The keys of a provider as they are known here: fresh where that can be, stale where it cannot."""

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog
from joserfc.jwk import Key

from api_server.exceptions import IdentityUnavailableError
from api_server.identity.provider import ProviderError
from api_server.identity.throttled_lines import ThrottledLines

# From when on a set is fetched again, in the background.
_FRESH_S = 300.0
# Until when it is used where it cannot be.
_USABLE_S = 24 * 3600.0
# Between two fetches, whoever asks for what.
_COOL_DOWN_S = 10.0

log = structlog.get_logger("api_server.identity")


class KnownKeys:
    """Keeps the set that `fetch` gives: fetched by one at a time, and at most once in 10 seconds.

    After 5 minutes it is fetched again while what is known goes on being used, for up to a day where the provider does
    not answer. A key that is not in the set any more is not known any more.
    """

    def __init__(
        self, fetch: Callable[[], Awaitable[Mapping[str, Key]]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: Mapping[str, Key] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._failure = ""
        self._refusals = ThrottledLines("tokens not verified", clock)

    async def key(self, kid: str) -> Key | None:
        """Return a key, None where the provider has none with this id.

        Raises IdentityUnavailableError where no set is known that could be used.
        """
        key = self.known(kid)
        if key is None and (fetching := self._refresh()) is not None:
            # It goes on for others when one of those who wait leaves.
            await asyncio.shield(fetching)
            key = self.known(kid)
        if key is None and not self._is_usable:
            reason = f"the identity provider gives no keys: {self._failure or 'not asked yet'}"
            self._refusals.happened(reason=reason)
            raise IdentityUnavailableError(reason)
        return key

    def known(self, kid: str) -> Key | None:
        """Return a key if it is known already; have the set fetched again in the background where that is due."""
        if not self._is_usable:
            return None
        if self._clock() - self._fetched_at > _FRESH_S:
            self._refresh()
        return self._keys.get(kid)

    async def aclose(self) -> None:
        """End a fetch that goes on."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    @property
    def _is_usable(self) -> bool:
        return self._clock() - self._fetched_at <= _USABLE_S

    def _refresh(self) -> asyncio.Task[None] | None:
        """Return the fetch that goes on, a new one where there may be one, else None."""
        if self._fetching is None and self._clock() - self._tried_at >= _COOL_DOWN_S:
            self._tried_at = self._clock()
            # It is nobody's request, and its lines carry nobody's id.
            self._fetching = asyncio.create_task(self._fetched(), name="jwks", context=contextvars.Context())
            self._fetching.add_done_callback(self._ended)
        return self._fetching

    async def _fetched(self) -> None:
        try:
            keys = await self._fetch()
        except ProviderError as error:
            self._tell(str(error))
            return
        # What else an error says may be what nobody should read.
        except Exception as error:  # noqa: BLE001 - the edge: whatever fails, known keys go on being used
            self._tell(f"it cannot be asked: {type(error).__name__}")
            return
        # A key that is as it was stays the same object, by which what was verified with it is known.
        known = self._keys
        self._keys = {kid: known[kid] if known.get(kid) == key else key for kid, key in keys.items()}
        self._fetched_at = self._clock()
        self._tell("")

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._fetching = None

    def _tell(self, failure: str) -> None:
        """Log that the provider does not answer any more, or answers again, once."""
        if failure != self._failure:
            self._failure = failure
            if failure:
                log.warning("identity provider gives no keys", reason=failure)
            else:
                log.info("identity provider gives keys again", keys=len(self._keys))
